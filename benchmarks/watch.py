"""How much memory and time ``facellava watch`` takes for a long video.

    python benchmarks/watch.py --minutes 60 [options of facellava watch]

A minute of a real, moving face (scikit-image's astronaut), encoded once and repeated by copying its packets. The
program runs as a process of its own; its memory is what the system calls the peak of its resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
from common import moving_portrait

RATE, MINUTE = 25, 60


def repeated(segment: Path, path: Path, times: int) -> None:
    """A video that is ``segment`` so many times, without encoding it again."""
    with av.open(str(segment)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        assert stream.time_base is not None
        length = round(MINUTE / stream.time_base)
        for turn in range(times):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts += turn * length
                packet.dts += turn * length
                packet.stream = copy
                target.mux(packet)


def watched(video: Path, out: Path, options: list[str]) -> tuple[float, float, float]:
    """Seconds by the clock and of processors, and the peak in MiB of a run."""
    start = time.monotonic()
    command = [sys.executable, "-m", "facellava", "watch", str(video), "--out", str(out), *options]
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"facellava watch ended with {os.waitstatus_to_exitcode(status)}"
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("WIDTH", "HEIGHT"))
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        segment, video, out = (Path(folder) / name for name in ("minute.mp4", "long.mp4", "out"))
        moving_portrait(segment, 0, RATE * MINUTE, tuple(given.size))
        repeated(segment, video, given.minutes)
        seconds, work, peak = watched(video, out, options)
        rows = (out / "windows.jsonl").read_text(encoding="utf-8").count('"window":')
    row = {"minutes": given.minutes, "windows": rows, "seconds": round(seconds, 1), "cpu_seconds": round(work, 1)}
    print(json.dumps(row | {"peak_mib": round(peak), "options": options}))


if __name__ == "__main__":
    main()
