"""The watcher tells of each new set once, when it is stable."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from config.files import FileSet, read_set
from config.watch import watch

from .test_files import mount, write

FAST = 0.01


async def following(changes: AsyncIterator[FileSet]) -> FileSet:
    return await asyncio.wait_for(anext(changes), 20)


async def test_a_changed_file_is_told_once(tmp_path: Path) -> None:
    write(tmp_path)
    async with aclosing(watch(tmp_path, read_set(tmp_path).version, interval_seconds=FAST)) as changes:
        write(tmp_path, "new")
        assert await following(changes) == read_set(tmp_path)
        write(tmp_path, "newer")
        assert "# newer" in (await following(changes)).texts["plans.yaml"]


async def test_what_is_in_force_is_not_told(tmp_path: Path) -> None:
    write(tmp_path, "same")
    async with aclosing(watch(tmp_path, read_set(tmp_path).version, interval_seconds=FAST)) as changes:
        write(tmp_path, "same")
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(FAST * 10)
        write(tmp_path, "other")
        assert "# other" in (await asyncio.wait_for(waiting, 20)).texts["plans.yaml"]


async def test_a_swapped_link_is_told(tmp_path: Path) -> None:
    mount(tmp_path, 0)
    async with aclosing(watch(tmp_path, read_set(tmp_path).version, interval_seconds=FAST)) as changes:
        mount(tmp_path, 1)
        assert "# 1\n" in (await following(changes)).texts["gateway.yaml"]


async def test_a_folder_that_is_away_for_a_while_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    write(folder)
    async with aclosing(watch(folder, read_set(folder).version, interval_seconds=FAST)) as changes:
        folder.rename(tmp_path / "away")
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(FAST * 5)
        write(folder, "back")
        assert "# back" in (await asyncio.wait_for(waiting, 20)).texts["meters.yaml"]
