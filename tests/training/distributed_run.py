"""Train the toy problem in one of several processes, as `torchrun` starts them. test_distributed.py runs this.

distributed_run.py FOLDER STEPS [--sharding fsdp] [--accumulate N] [--dropout P] [--die RANK:STEP] [--stop RANK:STEP]
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import toy_run

from regard.errors import RegardError
from regard.training import (
    Cosine,
    Metric,
    Plan,
    Settings,
    StepDone,
    Trainer,
    build_optimizer,
    last_checkpoint,
    open_processes,
    recompute,
    seed_process,
    whole_state,
)
from regard.training.budget import Budget


class Objective(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return torch.nn.functional.cross_entropy(self.model(batch[:, 0]), batch[:, 1], reduction="sum")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--sharding", default="none")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--per-batch", type=int, default=toy_run.PER_BATCH)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--others-may-not-write", action="store_true")
    parser.add_argument("--die", default="-1:0")
    parser.add_argument("--stop", default="-1:0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    processes = open_processes(torch.device("cpu"), options.precision, options.sharding)
    torch.manual_seed(5)
    model = toy_run.ToyModel(options.dropout)
    layers = [model.hidden, model.norm]
    if options.recompute:
        recompute(layers)
    loss = processes.prepare(Objective(model), layers)
    seed_process(5, processes.rank)
    problem = toy_run.make_problem(model, noise=False, per_batch=options.per_batch)
    problem = type(problem)(problem.epoch, problem.collate, problem.tokens, loss)
    losses = {}

    def listen(event):
        for name, act in (("die", lambda: os._exit(9)), ("stop", lambda: os.kill(os.getpid(), signal.SIGTERM))):
            rank, step = map(int, getattr(options, name).split(":"))
            if isinstance(event, StepDone) and processes.rank == rank and event.step == step:
                act()
        if isinstance(event, StepDone):
            losses[event.step] = [event.loss, event.grad_norm, event.tokens]

    steps = options.steps
    settings = Settings(accumulate=options.accumulate, validate_every=5, save_every=4, keep=2, metric=Metric())

    def validate(step):
        weights = whole_state(model)
        return processes.on_main(lambda: {"loss": sum(float(value.double().sum()) for value in weights.values())})

    folder = options.folder / "checkpoints"
    trainer = Trainer(
        model,
        build_optimizer(model, 0.02, weight_decay=0.1),
        Cosine(0.02, 3, steps),
        problem,
        Plan(Budget(steps=steps), steps, "steps"),
        folder,
        settings=settings,
        validate=validate,
        listeners=[listen],
        processes=processes,
    )
    if options.others_may_not_write and processes.rank:

        def refuse(*arguments):
            raise AssertionError("a process other than the first writes")

        trainer.store.write = trainer.store.prune = refuse
    saved = last_checkpoint(folder, print) if processes.rank == 0 else None
    processes.wait()
    saved = saved or last_checkpoint(folder, print)
    if saved is not None:
        trainer.resume(saved)
    finished = trainer.run()
    weights = {name: tensor.tolist() for name, tensor in whole_state(model).items()}
    result = {"losses": losses, "finished": finished.reason, "step": finished.step, "weights": weights}
    (options.folder / f"result-{processes.rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    try:
        main()
    except RegardError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
