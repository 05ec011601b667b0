"""Hostile versions of a file: flipped, cut, shuffled, and changed by somebody who knows the format and its hashes."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import safetensors.torch

from worldloom.data.index import make_line
from worldloom.files import seal, tensors_hash

DEEP = "@deep@"  # stands for brackets nested so deep that no program can follow
NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 255, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(10**30), 10**4000),
    *(0.5, -0.0, 1e-308, 1e308, float("nan"), float("inf"), -float("inf")),
    *(
        "",
        "\ud800",
        "\x00",
        "a" * 10_000,
        "../../../etc/passwd",
        "os:system",
        "__class__",
        "1e999",
        "NaN",
        "\u202e",
        DEEP,
    ),
    *([], {}, [[]], [None], [1, "2", 3.0], {"": {}}, {"__class__": "x"}, [0] * 5000),
]


def damage(data: bytes, rng: random.Random) -> bytes:
    """Without any knowledge of the format."""
    out = bytearray(data)
    kind = rng.randrange(8)
    at = rng.randrange(len(out)) if out else 0
    size = min(len(out) - at, 1 << rng.randrange(12))
    if kind == 0 and out:
        out[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        for _ in range(rng.randrange(1, 20)):
            if out:
                out[rng.randrange(len(out))] = rng.randrange(256)
    elif kind == 2:
        del out[at:]
    elif kind == 3:
        del out[at : at + size]
    elif kind == 4:
        out[at:at] = out[at : at + size]
    elif kind == 5 and len(out) > 2:
        to = rng.randrange(len(out))
        out[at : at + size], out[to : to + size] = out[to : to + size], out[at : at + size]
    elif kind == 6:
        out[at : at + size] = bytes(size)
    else:
        out += rng.randbytes(rng.randrange(1, 64)) if rng.random() < 0.5 else b"\x00" * 4096
    return bytes(out)


# ---------------------------------------------------------------------------------------------------------------- JSON


def places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all nodes."""
    found = [where]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*where, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value[:20]):
            found += places(inner, (*where, i))
    return found


def change(value: Any, rng: random.Random) -> Any:
    """JSON of another structure or with other values, in one place."""
    value = copy.deepcopy(value)
    where = rng.choice(places(value)[1:] or [()])
    if not where:
        return rng.choice(NASTY)
    parent = value
    for key in where[:-1]:
        parent = parent[key]
    last, old = where[-1], parent[where[-1]]
    kind = rng.randrange(8)
    if kind <= 2:
        parent[last] = rng.choice(NASTY)
    elif kind == 3:
        del parent[last]
    elif kind == 4:
        if isinstance(parent, dict):
            parent[rng.choice(["x", "", "__init__", "\ud800", "a" * 300])] = parent.pop(last)
        else:
            parent.insert(last, copy.deepcopy(rng.choice(parent)))
    elif kind == 5:
        parent[last] = [old] if rng.random() < 0.5 else {"x": old}
    elif kind == 6 and isinstance(old, (int, float)) and not isinstance(old, bool) and abs(old) < 2**100:
        parent[last] = rng.choice([-old, old + 1, old * 2**40, float(old), str(old), old * 10**20])
    else:
        other = rng.choice(places(value)[1:])
        node = value
        for key in other:
            node = node[key] if isinstance(node, (dict, list)) else node
        parent[last] = copy.deepcopy(node)
    return value


def text_of(value: Any, rng: random.Random) -> bytes:
    """As JSON, which may say a thing twice, or nest without end."""
    text = json.dumps(value, indent=rng.choice([None, 2]))
    deep = rng.choice(["[" * 100_000 + "]" * 100_000, '{"a":' * 3000 + "1" + "}" * 3000])
    text = text.replace(f'"{DEEP}"', deep)
    if isinstance(value, dict) and value and rng.random() < 0.05:
        key = rng.choice(list(value))
        text = "{" + json.dumps(key) + ": " + json.dumps(rng.choice(NASTY[:20])) + ", " + text.lstrip()[1:]
    return text.encode()


def sealed_json(data: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """Changed JSON, and whether whoever changed it also forged the check."""
    value = change(json.loads(data), rng)
    if isinstance(value, dict) and "check" in value and rng.random() < 0.7:
        value.pop("check")
        try:
            value["check"] = seal(value)
        except (ValueError, RecursionError):
            value["check"] = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
        return text_of(value, rng), True
    forged = not isinstance(value, dict) or "check" not in value
    return text_of(value, rng), forged


def plain_json(data: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """Changed JSON of a format without checks."""
    value = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        value = change(value, rng)
        if not isinstance(value, (dict, list)):
            break
    return text_of(value, rng), True


def index_lines(data: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """One line of an index changed, and all checks from there on forged."""
    lines = data.splitlines()
    at = rng.randrange(len(lines))
    previous = json.loads(lines[at - 1])["check"] if at else ""
    if at == 0:
        return damage(data, rng), False  # its check needs the spec
    out, records = lines[:at], [json.loads(line) for line in lines[at:]]
    records[0] = change({k: v for k, v in records[0].items() if k != "check"}, rng)
    for record in records:
        if not isinstance(record, dict) or not record:
            return damage(data, rng), False
        try:
            line, previous = make_line(previous, {k: v for k, v in record.items() if k != "check"})
        except Exception:  # what can't be forged is damaged
            return damage(data, rng), False
        out.append(line.rstrip(b"\n"))
    return b"\n".join(out) + b"\n", True


def log_lines(data: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """One line of a log changed."""
    lines = data.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = text_of(change(json.loads(lines[at]), rng), rng).replace(b"\n", b" ")
    return b"\n".join(lines) + b"\n", True


# --------------------------------------------------------------------------------------------------------- safetensors


def split_tensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and the rest."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join_tensors(header: Any, body: bytes, rng: random.Random) -> bytes:
    text = text_of(header, rng)
    return struct.pack("<Q", len(text)) + text + body


def tensor_file(data: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """A safetensors file of ours whose header, meta or tensors were changed, with a forged hash where that can be."""
    header, body = split_tensors(data)
    kind = rng.randrange(6)
    if kind == 0:  # a length that lies
        length = rng.choice([0, 1, 7, 2**31, 2**63, 2**64 - 1, 100_000_001, len(data), len(data) - 8])
        return struct.pack("<Q", length) + data[8:], False
    if kind == 1:  # the header, unforged
        return join_tensors(change(header, rng), body, rng), False
    if kind == 2:  # offsets that overlap or leave the file
        names = [n for n in header if n != "__metadata__"]
        one = header[rng.choice(names)]
        one["data_offsets"] = rng.choice(
            [[0, len(body)], [0, 0], [len(body), 2**40], [8, 4], header[names[0]]["data_offsets"]]
        )
        return join_tensors(header, body, rng), False
    if kind == 3:  # a dtype or shape of the same size
        one = header[rng.choice([n for n in header if n != "__metadata__"])]
        if rng.random() < 0.5:
            one["dtype"] = rng.choice(
                ["I8", "U8", "BOOL", "F16", "BF16", "F32", "F64", "I64", "F8_E4M3", "F8_E8M0", "F4", "C64"]
            )
        else:
            one["shape"] = rng.choice(
                [[], one["shape"][::-1], [*one["shape"], 1], [1, *one["shape"]], [2**32, 2**32], [0]]
            )
        return forge(join_tensors(header, body, random.Random(0)))
    meta = json.loads(header["__metadata__"]["meta"])
    header["__metadata__"]["meta"] = text_of(change(meta, rng), rng).decode()
    return forge(join_tensors(header, body, rng))


def forge(data: bytes) -> tuple[bytes, bool]:
    """The same file with the hash that it should have, if it can be read at all."""
    try:
        header, body = split_tensors(data)
        meta = json.loads(header["__metadata__"]["meta"])
        digest = tensors_hash(safetensors.torch.load(data), meta)
        header["__metadata__"]["sha256"] = digest
    except Exception:  # then it stays without
        return data, False
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body, True


Mutator = Callable[[bytes, random.Random], tuple[bytes, bool]]
KNOWING: dict[str, Mutator] = {
    "sealed": sealed_json, "plain": plain_json, "index": index_lines, "log": log_lines, "tensors": tensor_file,
}  # fmt: skip
"""By kind of file: a change by somebody who knows the format; the second value says whether its hash is forged."""

__all__ = ["KNOWING", "NASTY", "change", "damage", "forge", "places"]
