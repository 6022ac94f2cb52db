import errno
import json
import os
import shutil

import pytest

import regard.files
from regard.errors import CheckpointError
from regard.training import CheckpointStore, DamagedCheckpointError
from regard.training import store as store_module
from regard.training.store import read_checkpoint, read_checkpoint_file

FILES = {"a.bin": bytes(range(251)), "b.json": b"{}"}


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def test_written_and_read_back(store):
    path = store.write(1234567, FILES.items())
    assert path == store.path(1234567) == store.folder / "step-1234567"
    assert store.write(7, FILES.items()).name == "step-000007"
    assert store.steps() == [7, 1234567]
    assert read_checkpoint(store.path(7)) == FILES
    assert read_checkpoint_file(store.path(7), "b.json") == b"{}"
    assert names(store.folder) == ["step-000007", "step-1234567"]
    assert set(names(path)) == {"a.bin", "b.json", "manifest.json"}


def test_replacing_the_same_step(store):
    store.write(7, FILES.items())
    store.write(7, {"a.bin": b"new"}.items())
    assert read_checkpoint(store.path(7)) == {"a.bin": b"new"}
    assert names(store.folder) == ["step-000007"]


@pytest.mark.parametrize("name", ["a.bin", "b.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["truncate", "alter", "remove", "empty"])
def test_damage_is_found_and_the_file_named(store, name, harm):
    file = store.write(7, FILES.items()) / name
    content = file.read_bytes()
    if harm == "truncate":
        file.write_bytes(content[:-1])
    elif harm == "alter":
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    with pytest.raises(DamagedCheckpointError, match=f"step-000007/{name}"):
        read_checkpoint(store.path(7))


def test_an_altered_checksum_and_a_newer_version(store):
    file = store.write(7, FILES.items()) / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["version"] = 99
    file.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="version 99") as caught:
        read_checkpoint(store.path(7))
    assert not isinstance(caught.value, DamagedCheckpointError)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(store.path(8))


def test_prune_keeps_the_newest_and_those_named(store):
    for step in (2, 3, 5, 7, 11):
        store.write(step, FILES.items())
    store.prune(keep={3, 4})
    assert store.steps() == [3, 7, 11]
    assert names(store.folder) == ["step-000003", "step-000007", "step-000011"]
    store.prune(keep=(), newest=5)
    assert store.steps() == [3, 7, 11]


def test_recover_removes_what_a_crash_left(store):
    store.recover()  # no folder yet
    store.write(7, FILES.items())
    for name in ("step-000011.tmp-abc", "step-000005.tmp-delete", "step-000007.old-abc"):
        shutil.copytree(store.path(7), store.folder / name)
    os.rename(store.path(7), store.folder / "step-000013.old-xyz")  # killed between the two renames of a replacement
    (store.folder / "notes.tmp-1").mkdir()
    store.recover()
    assert names(store.folder) == ["notes.tmp-1", "step-000007", "step-000013"]
    assert read_checkpoint(store.path(13)) == read_checkpoint(store.path(7)) == FILES


class Disk:
    """A writer on which the n-th operation and all later ones fail, as on a full disk."""

    def __init__(self, monkeypatch, good):
        self.left = good
        for module, name in ((store_module, "write_bytes"), (store_module.os, "rename"), (store_module, "sync_folder")):
            monkeypatch.setattr(module, name, self.wrap(getattr(module, name)))

    def wrap(self, function):
        def call(*arguments):
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
            self.left -= 1
            return function(*arguments)

        return call


@pytest.mark.parametrize("good", range(5))
def test_a_full_disk_leaves_the_last_good_checkpoint(store, monkeypatch, good):
    store.write(7, FILES.items())
    with monkeypatch.context() as patch:
        Disk(patch, good)
        with pytest.raises(
            CheckpointError, match=r"No space left on device.*last good checkpoint is .*step-0000"
        ) as caught:
            store.write(11, FILES.items())
        assert "step-000011 could not be written" in str(caught.value)
    store.recover()
    assert read_checkpoint(store.path(7)) == FILES
    assert [name for name in names(store.folder) if "tmp" in name] == []


def test_a_failed_replacement_leaves_the_former_one(store, monkeypatch):
    store.write(7, FILES.items())
    rename = os.rename

    def refuse(source, target):
        if ".tmp-" in str(source):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(CheckpointError, match="Input/output"):
        store.write(7, {"a.bin": b"new"}.items())
    assert read_checkpoint(store.path(7)) == FILES
    assert names(store.folder) == ["step-000007"]


def test_without_an_earlier_checkpoint_the_message_says_so(store, monkeypatch):
    Disk(monkeypatch, 1)
    with pytest.raises(CheckpointError, match="no earlier checkpoint"):
        store.write(11, FILES.items())


def test_a_file_larger_than_the_disk_allows(store):
    """The real thing, without patches: the kernel refuses to let a file grow (RLIMIT_FSIZE gives EFBIG)."""
    resource = pytest.importorskip("resource")
    import signal

    store.write(7, FILES.items())
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, former[1]))
        with pytest.raises(CheckpointError, match=r"File too large.*last good checkpoint is .*step-000007"):
            store.write(11, {"a.bin": bytes(100_003)}.items())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(store.folder) == ["step-000007"]
    assert read_checkpoint(store.path(7)) == FILES


def test_files_are_flushed_before_the_rename(store, monkeypatch):
    """Every file and the new directory are fsynced before the directory gets its name, the parent after it."""
    events = []
    fsync, rename = os.fsync, os.rename

    def logged_fsync(descriptor):
        events.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def logged_rename(source, target):
        events.append("rename")
        rename(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    monkeypatch.setattr(regard.files.os, "fsync", logged_fsync)
    monkeypatch.setattr(store_module.os, "rename", logged_rename)
    store.write(7, FILES.items())
    at = events.index("rename")
    assert sum(".tmp" in os.path.basename(event) and not os.path.isdir(event) for event in events[:at]) >= 3
    assert ".tmp-" in os.path.basename(events[at - 1])  # the directory itself, last
    assert events[at + 1 :] == [str(store.folder)]
