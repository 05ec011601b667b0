"""Run as a script: a child appends to a dataset and is killed at a random moment, again and again.

After each kill the dataset must hold at least every episode that was acknowledged, whole, and go on from there.
"""

import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from data_toys import SPEC, episode, same

from worldloom.data import DataError, Dataset, DatasetWriter


def length(number: int) -> int:
    return 1 + (number * 7919) % 40


def append_for_ever(path: Path, acknowledge: int) -> None:
    writer = DatasetWriter(path, SPEC, commit_seconds=0.0, shard_bytes=20_000)
    while True:
        number = len(writer)
        writer.add(episode(number, length(number)))
        os.write(acknowledge, struct.pack("<q", number))


def last_acknowledged(head: bytes, pipe: int) -> int:
    with os.fdopen(pipe, "rb") as file:
        data = head + file.read()
    return struct.unpack_from("<q", data, len(data) - 8)[0] if data else -1


def main(path: Path, rounds: int) -> None:
    os.fsync = lambda descriptor: None  # a killed process does not lose what the system holds; a killed machine would
    random.seed(0)
    before, acknowledged, torn = 0, -1, 0
    for _ in range(rounds):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            append_for_ever(path, write)
        os.close(write)
        head = b"".join(os.read(read, 8) for _ in range(random.randrange(5)))  # waits for so many episodes
        time.sleep(random.uniform(0.0, 0.01))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the writer failed before it was killed"
        acknowledged = max(acknowledged, last_acknowledged(head, read))
        try:
            data = Dataset(path)
        except DataError:
            if acknowledged >= 0:
                raise
            continue
        assert len(data) > acknowledged, f"{acknowledged + 1} were acknowledged, {len(data)} survived"
        assert len(data) >= before, "earlier episodes vanished"
        assert data.verify() == len(data)
        for number in range(before, len(data)):
            same(data.episode(number), episode(number, length(number)))
        claimed = data.index.extents()
        torn += any(f.stat().st_size > claimed.get(int(f.stem), 0) for f in (path / "shards").iterdir())
        before = len(data)
    assert before > 0, "no episode was ever written: the kills came too early"
    print(f"{before} episodes survived {rounds} kills, {torn} of them inside an episode")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
