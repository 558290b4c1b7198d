"""The files are read as one set, also while somebody changes them; the last good one is kept."""

import os
import threading
from pathlib import Path

import pytest

from config.files import ConfigMissing, FileSet, load_last_good, read_set, save_last_good

from .samples import GATEWAY, METERS, PLANS, files


def write(folder: Path, mark: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("gateway.yaml", GATEWAY), ("meters.yaml", METERS), ("plans.yaml", PLANS)):
        (folder / name).write_text(f"{text}# {mark}\n")


def mount(folder: Path, number: int) -> None:
    """What Kubernetes does with a config map: a new folder, and one link swapped to it."""
    fresh = folder / f"..set_{number}"
    write(fresh, str(number))
    link = folder / "..data_tmp"
    link.symlink_to(fresh.name)
    link.replace(folder / "..data")
    for name in ("gateway.yaml", "meters.yaml", "plans.yaml"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def test_equal_contents_have_equal_versions_wherever_they_lie(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    one, other = read_set(tmp_path / "a"), read_set(tmp_path / "b")
    assert (one, one.version) == (other, other.version)
    write(tmp_path / "b", "changed")
    assert read_set(tmp_path / "b").version != one.version


def test_other_targets_are_no_other_version() -> None:
    assert files().with_targets("http://x").version == files().version


def test_a_set_survives_json() -> None:
    given = FileSet(texts={"gateway.yaml": "a: ü\n"}, unread={"plans.yaml": "gone"}, targets=("http://x",))
    assert FileSet.from_json(given.to_json()) == given


def test_what_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "plans.yaml").unlink()
    (tmp_path / "meters.yaml").write_bytes(b"a: \xff\n")
    found = {fault.file: fault.message for fault in read_set(tmp_path).faults()}
    assert set(found) == {"plans.yaml", "meters.yaml"}
    assert ("weighbridge init" in found["plans.yaml"], "UTF-8" in found["meters.yaml"]) == (True, True)


def test_no_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigMissing, match="weighbridge init"):
        read_set(tmp_path / "nowhere")


def test_a_set_behind_a_swapped_link_is_never_a_mixture(tmp_path: Path) -> None:
    mount(tmp_path, 0)
    stop = threading.Event()

    def swap() -> None:
        for number in range(1, 200):
            mount(tmp_path, number)
            if stop.wait(0.002):
                return

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(100):
            marks = {text.rsplit("# ", 1)[1] for text in read_set(tmp_path).texts.values()}
            assert len(marks) == 1
    finally:
        stop.set()
        swapper.join()


def test_the_last_good_set_is_kept_and_found_again(tmp_path: Path) -> None:
    assert load_last_good(tmp_path / "data") is None
    save_last_good(tmp_path / "data", files())
    save_last_good(tmp_path / "data", files(plans=PLANS + "# newer\n"))
    assert load_last_good(tmp_path / "data") == files(plans=PLANS + "# newer\n")
    assert len(os.listdir(tmp_path / "data")) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"texts": 5}'])
def test_a_damaged_last_good_set_is_none(tmp_path: Path, damage: str) -> None:
    save_last_good(tmp_path, files())
    next(tmp_path.iterdir()).write_text(damage)
    assert load_last_good(tmp_path) is None
