"""Texts and sentences of words as rows of ids for BERT, and what a model says of many of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.data import inference_batches
from regard.data.tokenizers import Tokenizer
from regard.models.bert import SentenceClassifier, TokenTagger
from regard.tasks.classification import classification_logits
from regard.tasks.framing import Frame, FramedRow, collate_rows, frame_texts
from regard.tasks.tagging import WordRow, collate_words, word_logits, word_rows

BATCH_TOKENS = 8192  # positions read together
BATCH_ROWS = 256


def frame_of(tokenizer: Tokenizer) -> Frame:
    """What stands around a text: a tokenizer's [CLS] and [SEP], which are `<bos>` and `<eos>` of one trained here."""
    return Frame(tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)


def text_rows(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], longest: int) -> list[FramedRow]:
    """Texts, or pairs of texts, framed and cut to `longest` positions."""
    ids = iter(tokenizer.encode_batch([part for parts in texts for part in parts]))
    frame = frame_of(tokenizer)
    return [
        frame_texts(next(ids), next(ids) if len(parts) > 1 else None, frame, longest)  # evaluated in this order
        for parts in texts
    ]


def sentence_rows(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], longest: int) -> list[list[WordRow]]:
    """For each sentence the rows of its words, each of at most `longest` positions.

    Words are tokenised one by one, each as at the start of a text; one of which nothing is left is `<unk>`.
    """
    pieces = iter(tokenizer.encode_batch([word for words in sentences for word in words]))
    frame, unknown = frame_of(tokenizer), [tokenizer.unk_id]
    return [word_rows([next(pieces) or unknown for _ in words], frame, longest) for words in sentences]


def class_log_probs(model: SentenceClassifier, rows: Sequence[FramedRow], frame: Frame) -> Tensor:
    """Natural-log probabilities of the classes (N, C), float32 on the CPU, in the order of the rows."""
    device = model.output.weight.device
    found = torch.empty(len(rows), model.output.weight.shape[0])
    with torch.no_grad():
        for batch in inference_batches([len(row.ids) for row in rows], BATCH_TOKENS, BATCH_ROWS):
            texts = collate_rows([rows[int(i)] for i in batch], frame, device)
            found[batch] = classification_logits(model, texts).log_softmax(-1).float().cpu()
    return found


def tag_log_probs(model: TokenTagger, rows: Sequence[WordRow], frame: Frame) -> list[Tensor]:
    """Natural-log probabilities of the tags of the words (W, C) of each row, float32 on the CPU, in the rows' order."""
    device = model.output.weight.device
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    with torch.no_grad():
        for batch in inference_batches([len(one.row.ids) for one in rows], BATCH_TOKENS, BATCH_ROWS):
            chosen = [rows[int(i)] for i in batch]
            texts, first = collate_words(chosen, frame, device)
            flat = word_logits(model, texts, first).log_softmax(-1).float().cpu()  # (N, C)
            for i, values in zip(batch, torch.split(flat, [len(one.firsts) for one in chosen]), strict=True):
                found[int(i)] = values
    return found
