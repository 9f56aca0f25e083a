"""Projects: classes and photos of a folder, what is done to them, and that all of it can be undone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from photo_folders import make_photos
from PIL import Image

from fastcnn._web import Limits, Refused, as_upload
from fastcnn.studio import journal
from fastcnn.studio.journal import Entry, Journal
from fastcnn.studio.listing import listing_of
from fastcnn.studio.project import Project
from fastcnn.training.folders import class_folders


def photo(colour=(200, 30, 60)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(file, "PNG")
    return file.getvalue()


def upload():
    return as_upload(photo(), Limits())


@pytest.fixture
def project(tmp_path):
    made = Project(make_photos(tmp_path / "photos", 4, ("cat", "dog")))
    yield made
    made.close()


def files(project):
    """What `fastcnn train` sees."""
    found = {}
    for path in sorted(project.root.rglob("*")):
        relative = path.relative_to(project.root)
        if path.is_file() and relative.parts[0] != ".fastcnn":
            found[relative.as_posix()] = path.read_bytes()
    return found


def ids(project, label):
    return [key for key, photo in project.listing().photos.items() if photo.label == label]


def test_a_project_is_the_folder_that_training_takes(project):
    project.add("cat", "holiday.jpeg", upload())
    found = class_folders(project.root)
    assert {name: len(paths) for name, paths in found.items()} == {"cat": 5, "dog": 4}
    assert project.listing().counts == {"cat": 5, "dog": 4}
    assert found["cat"][-1].name == "holiday.png"  # the suffix is the format's


def test_an_empty_folder_becomes_a_project(tmp_path):
    project = Project(tmp_path / "new" / "one")
    assert project.listing().classes == []
    assert project.create_class(" Golden retriever ") == "Golden retriever"
    project.add("Golden retriever", "a.png", upload())
    assert [p.path for p in project.listing().photos.values()] == ["Golden retriever/a.png"]
    project.close()


def test_names_never_hide_another_photo(project):
    paths = [project.add("cat", "a.png", upload()) for _ in range(3)]
    assert paths == ["cat/a.png", "cat/a (2).png", "cat/a (3).png"]
    project.move(ids(project, "dog"), "cat")
    assert project.listing().counts == {"cat": 11}
    assert len(files(project)) == 11


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.create_class("bird"),
        lambda p: p.rename_class("cat", "kitten"),
        lambda p: p.remove_class("dog"),
        lambda p: p.add("dog", "x.png", upload()),
        lambda p: p.move(ids(p, "cat")[:2], "dog"),
        lambda p: p.remove(ids(p, "dog")[1:]),
    ],
)
def test_every_change_is_undone(project, change):
    before, classes = files(project), project.listing().classes
    change(project)
    assert (files(project), project.listing().classes) != (before, classes)
    reopened = project.root
    project.close()
    again = Project(reopened)  # what can be undone outlives the process
    assert again.undoable()
    again.undo()
    assert (files(again), again.listing().classes) == (before, classes)
    assert again.undoable() == "" and again.undo() == ""
    again.close()


def test_a_batch_is_undone_at_once(project):
    before = files(project)
    for name in "abc":
        project.add("cat", f"{name}.png", upload(), batch="drop")
    assert project.undoable() == "added a photo to cat, 3 times"
    project.undo()
    assert files(project) == before


def test_what_is_taken_away_is_not_deleted(project):
    before = {content for name, content in files(project).items() if name.startswith("dog/")}
    project.remove(ids(project, "dog"))
    kept = {path.read_bytes() for path in (project.root / ".fastcnn" / "trash").rglob("*.jpg")}
    assert kept == before


def test_a_kill_between_note_and_deed_loses_nothing(project):
    """The journal is written first: undoing what was not done, or half, does no harm."""
    before = files(project)
    moves = [("cat/0.jpg", "dog/0 (2).jpg"), ("cat/1.jpg", "dog/1 (2).jpg")]
    project._journal.add(Entry("b", "moved 2 photos to dog", moves))
    os.rename(project.root / "cat/0.jpg", project.root / "dog/0 (2).jpg")
    root = project.root
    project.close()
    with (root / ".fastcnn" / "journal.jsonl").open("a") as file:
        file.write('{"batch": "c", "wh')  # cut by the kill
    again = Project(root)
    again.undo()
    assert files(again) == before
    again.close()


def test_the_journal_keeps_what_was_last(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_KEPT", 5)
    kept = Journal(tmp_path / "journal")
    for number in range(30):
        kept.add(Entry(f"b{number}", "moved", [("a", "b")]))
    assert Journal(tmp_path / "journal").last[0].batch == "b29"
    assert 5 <= len((tmp_path / "journal").read_text().splitlines()) <= 10


def test_what_others_have_changed_since_is_not_written_over(project):
    project.move(ids(project, "cat")[:1], "dog")
    (project.root / "cat" / "0.jpg").write_bytes(b"of somebody else")
    project.undo()
    assert (project.root / "cat" / "0.jpg").read_bytes() == b"of somebody else"
    assert (project.root / "cat" / "0 (2).jpg").exists()


def test_versions_differ_with_every_change(project):
    seen = {project.listing().version}
    project.check_version(f'"{project.listing().version}"')
    for change in (
        lambda: project.create_class("bird"),
        lambda: project.add("bird", "x.png", upload()),
        lambda: (project.root / "cat" / "0.jpg").write_bytes(photo()),
        lambda: project.move(ids(project, "bird"), "dog"),
    ):
        change()
        version = project.listing().version
        assert version not in seen
        for old in seen:
            with pytest.raises(Refused) as refusal:
                project.check_version(f'"{old}"')
            assert refusal.value.status == 412
        seen.add(version)
    assert Project.listing(project).version in seen  # and stay, where nothing changes


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".fastcnn", "con", "", "train", "Val", "cat", None, 3])
def test_classes_have_names_of_folders(project, name):
    before = files(project)
    with pytest.raises(Refused):
        project.create_class(name)
    with pytest.raises(Refused):
        project.rename_class("dog", name)
    assert files(project) == before and project.listing().classes == ["cat", "dog"]


@pytest.mark.parametrize("label", ["bird", "..", ".fastcnn", "../photos/cat", "cat/..", "/tmp", "cat\0"])
def test_photos_go_to_classes_alone(project, label):
    before = files(project)
    with pytest.raises(Refused):
        project.add(label, "a.png", upload())
    with pytest.raises(Refused):
        project.move(ids(project, "cat"), label)
    assert files(project) == before


def test_file_names_of_clients_are_hints(project):
    for name in ("../../evil.png", "/etc/passwd", "..\\..\\x.jpg", "nul", "a\0b.png", ".hidden.png", "x.html", ""):
        path = project.add("cat", name, upload())
        assert path.startswith("cat/") and path.endswith(".png") and path.count("/") == 1
        assert (project.root / path).read_bytes() == photo()


def test_links_are_left_out_and_never_followed(project, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(photo())
    os.symlink(outside, project.root / "linked")
    os.symlink(outside / "secret.jpg", project.root / "cat" / "linked.jpg")
    listing = project.listing()
    assert listing.classes == ["cat", "dog"] and listing.links == 2
    assert not any("linked" in photo.path or "secret" in photo.path for photo in listing.photos.values())
    with pytest.raises(Refused):
        project.add("linked", "a.png", upload())
    with pytest.raises(Refused):
        project.remove_class("linked")
    old = listing.photos[ids(project, "cat")[0]]
    (project.root / old.path).unlink()
    os.symlink(outside / "secret.jpg", project.root / old.path)  # after it was listed
    with pytest.raises(Refused):
        project.file(old)
    assert sorted(path.name for path in outside.iterdir()) == ["secret.jpg"]


def test_state_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "photos" / ".fastcnn")
    with pytest.raises(Refused):
        Project(tmp_path / "photos")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_folders_with_parts_keep_them(tmp_path):
    root = tmp_path / "photos"
    for part in ("train", "val"):
        make_photos(root / part, 3, ("cat", "dog"))
    project = Project(root)
    assert {photo.part for photo in project.listing().photos.values()} == {"train", "validation"}
    assert project.add("cat", "a.png", upload()) == "train/cat/a.png"
    some = [key for key, photo in project.listing().photos.items() if photo.path.startswith("val/cat")]
    project.move(some, "dog")
    assert len(list((root / "val" / "dog").iterdir())) == 6
    project.rename_class("dog", "hound")
    assert project.listing().classes == ["cat", "hound"] and (root / "val" / "hound").is_dir()
    project.undo()
    project.undo()
    assert len(list((root / "val" / "cat").iterdir())) == 3
    project.close()


def test_one_process_at_a_time_has_a_project(project):
    script = "import sys; from fastcnn.studio.project import Project; Project(sys.argv[1])"
    command = [sys.executable, "-c", script, str(project.root)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and "is open in another studio" in result.stderr
    project.close()
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def test_state_stays_out_of_repositories(project):
    assert (project.root / ".fastcnn" / ".gitignore").read_text() == "*\n"


def test_what_is_no_photo_is_counted(project):
    (project.root / "cat" / "notes.txt").write_text("not a photo")
    (project.root / "cat" / ".hidden.jpg").write_bytes(photo())
    listing = listing_of(Path(project.root))
    assert listing.others == 1 and listing.counts["cat"] == 4


def test_journal_lines_are_plain(project):
    project.create_class("bird")
    (line,) = (project.root / ".fastcnn" / "journal.jsonl").read_text().splitlines()
    assert json.loads(line)["moves"] == [[None, "bird"]]
