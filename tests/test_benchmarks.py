"""The benchmarks run (their times are not looked at: speed never enters a test)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastcnn

ROOT = Path(__file__).parents[1]


def test_pytest_benchmarks():
    command = [sys.executable, "-m", "pytest", "benchmarks/", "-q", "--benchmark-disable", "-k", "LeNet or depthwise"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout


def test_table_of_training(tmp_path):
    """One small network, this engine alone: there is nothing to compare with, and nothing to be far from."""
    command = [
        sys.executable,
        "benchmarks/bench_training.py",
        "--networks",
        "LeNet",
        "--engines",
        "fastcnn",
        "--threads",
        "1",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
        "--json",
        str(tmp_path / "rows.json"),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    header, row = result.stdout.splitlines()
    assert header.split() == ["network", "threads", "fastcnn", "ratio", "losses", "others", "peak", "MB"]
    name, threads, milliseconds, ratio, losses, others, peak = row.split()
    assert (name, threads, ratio.rstrip("*")) == ("LeNet", "1", "nan")  # *: a disturbed machine
    assert float(losses) == float(others) == 0.0
    (found,) = json.loads((tmp_path / "rows.json").read_text())
    assert found["network"] == "LeNet" and found["loss_difference"] == 0.0
    assert abs(found["ms"]["fastcnn"] - float(milliseconds)) <= 0.01
    assert abs(found["peak"]["fastcnn"] / 1e6 - float(peak)) <= 1


def test_table_of_a_busy_machine():
    command = [
        sys.executable,
        "benchmarks/bench_busy.py",
        "--networks",
        "LeNet",
        "--batches",
        "2",
        "--busy",
        "0,1",
        "--seconds",
        "0.1",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    _, *rows = result.stdout.splitlines()
    assert [row.split()[:3] for row in rows] == [["LeNet", "2", "0"], ["LeNet", "2", "1"]]
    for row in rows:
        median, worst = map(float, row.split()[3:5])
        assert 0 < median <= worst


def test_table_of_interrupts():
    command = [sys.executable, "benchmarks/bench_interrupt.py", "--networks", "lenet", "--times", "2"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    _, *rows = result.stdout.splitlines()
    assert [row.split()[:2] for row in rows] == [["lenet", "prediction"], ["lenet", "training"]]


def test_table_of_compiling_beside_another_tree(tmp_path):
    """The package against itself: three rows, and the file says what the table says."""
    (tmp_path / "tree" / "src").mkdir(parents=True)
    (tmp_path / "tree" / "src" / "fastcnn").symlink_to(Path(fastcnn.__file__).parent)
    command = [sys.executable, "benchmarks/bench_compile.py", "--networks", "lenet", "--turns", "1", "--compiles", "1"]
    command += ["--against", str(tmp_path / "tree"), "--json", str(tmp_path / "rows.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    header, *rows = (line.split() for line in result.stdout.splitlines())
    assert header == ["network", "what", "ms", "against", "ratio"]
    assert [row[:2] for row in rows] == [["lenet", "plan"], ["lenet", "again"], ["lenet", "step"]]
    for row, found in zip(rows, json.loads((tmp_path / "rows.json").read_text()), strict=True):
        assert row[:2] == [found["network"], found["kind"]]
        assert abs(float(row[2]) - found["ms"]) <= 0.01 and abs(float(row[3]) - found["against"]) <= 0.01
        assert abs(found["ratio"] - found["ms"] / found["against"]) <= 1e-9


def test_compiling_beside_a_tree_without_the_package_is_refused(tmp_path):
    command = [sys.executable, "benchmarks/bench_compile.py", "--networks", "lenet", "--against", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0 and "no package in src" in result.stderr


def test_defaults_beside_other_classifiers():
    command = [sys.executable, "benchmarks/defaults.py", "--sets", "wine (13 features)", "--rounds", "1"]
    result = subprocess.run([*command, "--classifiers", "fastcnn", "SVM"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line[31:38] for line in result.stdout.splitlines()] == ["fastcnn", "SVM    "]


def test_page_of_defaults_tells_ties_with_their_errors():
    spec = importlib.util.spec_from_file_location("defaults", ROOT / "benchmarks" / "defaults.py")
    defaults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(defaults)
    halves = np.array([0.9, 0.8, 0.9, 0.8])
    noise = np.array([0.01, -0.01, 0.01, -0.01])
    found = {
        "ahead": {"fastcnn": halves, "SVM": halves - 0.1, "PyTorch": halves - 0.2},
        "near": {"fastcnn": halves + noise - 0.001, "SVM": halves - 0.1, "PyTorch": halves},
        "far": {"fastcnn": halves + noise - 0.05, "SVM": halves, "PyTorch": halves - 0.1},
    }
    error = np.sqrt((1 / 4 + 1) * 0.01**2 * 4 / 3)  # of four differences, of halves as large as their complements
    text = defaults.page(found)
    assert "| ahead | 2 | **85.0** | 75.0 | 65.0 | +10.00 ± 0.00 |" in text
    assert f"| near | 2 | 84.9 | 75.0 | **85.0** | -0.10 ± {100 * error:.2f} |" in text
    told = " ".join(text.split())
    assert f"On near fastcnn has 0.10 less than PyTorch, with a standard error of {100 * error:.2f}: a tie." in told
    assert f"On far fastcnn has 5.00 less than SVM, with a standard error of {100 * error:.2f}: behind." in told


def test_choosing_the_network_for_rows():
    names = ["64 units", "512 units, dropout 0.2 and 0.5"]
    command = [sys.executable, "benchmarks/choose_rows.py", "--sets", "iris", "--rounds", "1", "--candidates", *names]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line[:45].strip() for line in lines] == names and all(float(line.split()[-2]) > 80 for line in lines)


def test_photos_of_both_sizes():
    command = [sys.executable, "benchmarks/bench_photos.py", "--photos", "8", "--epochs", "2", "--rounds", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line[:5] for line in result.stdout.splitlines()] == ["12 me", "400 p", "ratio"]


def test_load_on_the_server(tmp_path, budget):
    """A small network, in both applications: nothing is lost. The rows of other engines are the same code."""
    count = budget(40, 20_000)
    command = [sys.executable, "benchmarks/serving/run.py", "--networks", "LeNet", "--clients", "4", "--seconds", "60"]
    command += ["--requests", "40", "--rounds", "1", "--threads", "1", "--engines", "fastcnn;fastcnn, naive"]
    command += ["--soak", str(count), "--json", str(tmp_path / "rows.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "rows.json").read_text())
    assert [row["engine"] for row in found["rows"]] == ["fastcnn", "fastcnn, naive"]
    assert all(row["lost"] == 0 and row["p99 ms"] >= row["p50 ms"] > 0 for row in found["rows"])
    (soak,) = found["soaks"]
    assert soak["requests"] == count and soak["lost"] == 0
    assert soak["MB after"] <= budget(1.5, 1.05) * soak["MB before"]  # few requests are all warm-up
