"""Every example runs in a process of its own, and reaches the result that it claims."""

import pathlib
import re
import socket
import subprocess
import sys
from typing import Any

import pytest

from .helpers import ROOT, environment, python


def run(name: str, folder: pathlib.Path, *arguments: str) -> str:
    """Run an example in an empty folder, and return its output."""
    file = str(ROOT / "examples" / name)
    result: Any = python(file, *arguments, cwd=folder, timeout=900)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


def test_rastrigin(tmp_path: pathlib.Path) -> None:
    output = run("evolve_rastrigin.py", tmp_path)
    assert re.search(r"step 200  best 0\.0000", output)
    solved = re.search(r"(\d+) of 16 runs", output)
    assert solved is not None and int(solved[1]) >= 4


def test_cartpole(tmp_path: pathlib.Path) -> None:
    output = run("evolve_cartpole.py", tmp_path)
    mean = re.search(r"100 new episodes: mean ([\d.]+)", output)
    assert mean is not None and float(mean[1]) >= 475


@pytest.mark.slow
def test_gymnasium(tmp_path: pathlib.Path) -> None:
    """A short run: the whole one takes three minutes."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'examples')!r})\n"
        "from evolve_gymnasium import main; main(8, 10, 'runs/lander')"
    )
    result = python("-c", code, cwd=tmp_path, timeout=300)
    assert "over 10 fresh episodes" in result.stdout, result.stderr
    means = re.search(r"generation 1: (-\d+), of the last: (-\d+)", result.stdout)
    assert means is not None and int(means[2]) > int(means[1])
    assert (tmp_path / "runs" / "lander").exists()


def test_subprocess(tmp_path: pathlib.Path) -> None:
    output = run("evolve_subprocess.py", tmp_path)
    found = re.findall(r"mean cost ([\d.]+)  (\d+) of 12 crashed", output)
    costs, crashes = [float(cost) for cost, _ in found], [int(n) for _, n in found]
    assert costs[-1] < 0.2 < costs[0] and crashes[-1] <= 1 < crashes[0]


@pytest.mark.slow
def test_on_hosts(tmp_path: pathlib.Path) -> None:
    """Two processes print the same, and one of them writes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    script = str(ROOT / "examples" / "evolve_on_hosts.py")
    arguments = [sys.executable, script, address, "2"]
    processes = [
        subprocess.Popen(
            [*arguments, str(number)],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    pattern = r"process (\d) of 2, 2 devices: (step 60, best mean return .*)"
    found = [re.search(pattern, output) for output in outputs]
    assert [one[1] for one in found if one is not None] == ["0", "1"]
    assert len({one[2] for one in found if one is not None}) == 1
    rows = (tmp_path / "runs" / "hosts.jsonl").read_text().splitlines()
    assert len(rows) == 60


def test_memory(tmp_path: pathlib.Path) -> None:
    output = run("evolve_memory.py", tmp_path)
    scores = [float(score) for score in re.findall(r"mean return (\S+) of 1", output)]
    assert scores[0] > 0.9 and abs(scores[1]) < 0.3


@pytest.mark.slow
def test_ppo_cartpole(tmp_path: pathlib.Path) -> None:
    output = run("ppo_cartpole.py", tmp_path)
    means = [float(mean) for mean in re.findall(r"new episodes ([\d.]+)", output)]
    assert len(means) == 3 and sorted(means)[1] >= 475
    assert (tmp_path / "runs" / "ppo_cartpole.png").stat().st_size > 10_000


@pytest.mark.slow
def test_ppo_then_evolve(tmp_path: pathlib.Path) -> None:
    output = run("ppo_then_evolve.py", tmp_path)
    before, after = (float(x) for x in re.findall(r"new episodes (-[\d.]+)", output))
    assert before > -150 and after > -110 and after > before - 5
    assert len([*(tmp_path / "runs").glob("acrobot_*.png")]) == 2


@pytest.mark.slow
def test_ppo_memory(tmp_path: pathlib.Path) -> None:
    output = run("ppo_memory.py", tmp_path)
    scores = [float(score) for score in re.findall(r"episodes (\S+) of 1", output)]
    assert scores[0] > 0.9 and abs(scores[1]) < 0.3
    assert len([*(tmp_path / "runs").glob("memory_*.png")]) == 2


@pytest.mark.slow
def test_sac_pendulum(tmp_path: pathlib.Path) -> None:
    output = run("sac_pendulum.py", tmp_path)
    numbers = re.search(r"mean return (\S+) before, (\S+) after", output)
    assert numbers is not None
    assert float(numbers[2]) > -220 > -900 > float(numbers[1])
    for suffix in ("png", "gif"):
        file = tmp_path / "runs" / f"sac_pendulum.{suffix}"
        assert file.stat().st_size > 10_000 and file.name in output


def test_a_sweep(tmp_path: pathlib.Path) -> None:
    output = run("sweep_learning_rates.py", tmp_path)
    assert len(re.findall(r"^ +\d+ +[\d.]+ +\d+ +\S+ +\S+$", output, re.M)) == 32
    error = re.search(r"loss on new points: ([\d.]+)", output)
    assert error is not None and float(error[1]) < 0.05
    assert (tmp_path / "runs" / "sweep_learning_rates.png").stat().st_size > 10_000


@pytest.mark.slow
def test_meta_evolution(tmp_path: pathlib.Path) -> None:
    output = run("meta_evolution.py", tmp_path)
    first, evolved = (float(x) for x in re.findall(r"new runs ([\d.]+)", output))
    assert evolved < 2 < 10 < first


@pytest.mark.slow
def test_seeds_with_wandb(tmp_path: pathlib.Path) -> None:
    output = run("seeds_with_wandb.py", tmp_path)
    median = re.search(r"median (\d+)", output)
    assert median is not None and float(median[1]) > 150
    lines = (tmp_path / "runs" / "seeds.jsonl").read_text().splitlines()
    assert len(lines) == 8 * 49 and '"lane": 7' in lines[-1]
    assert (tmp_path / "runs" / "seeds.png").stat().st_size > 10_000
    assert [*(tmp_path / "wandb").glob("offline-run-*")]


@pytest.mark.slow
def test_qd_arm(tmp_path: pathlib.Path) -> None:
    output = run("qd_arm.py", tmp_path)
    filled = re.search(r"can reach, ([\d.]+)% have", output)
    assert filled is not None and float(filled[1]) > 95
    place = re.search(r"reaches \[([\d.]+) ([\d.]+)\]", output)
    assert place is not None
    assert abs(float(place[1]) - 3) < 0.2 and abs(float(place[2]) - 4) < 0.2
    assert (tmp_path / "runs" / "qd_arm.png").stat().st_size > 10_000


@pytest.mark.slow
def test_qd_maze(tmp_path: pathlib.Path) -> None:
    output = run("qd_maze.py", tmp_path)
    share = re.search(r"step 100 +([\d.]+)% of the maze", output)
    assert share is not None and float(share[1]) > 45
    assert (tmp_path / "runs" / "qd_maze.png").stat().st_size > 10_000


@pytest.mark.slow
def test_qd_walker(tmp_path: pathlib.Path) -> None:
    # Three generations; all sixty take minutes.
    output = run("qd_walker.py", tmp_path, "3")
    shares = [int(x) for x in re.findall(r"(\d+)% of the cells", output)]
    assert shares[-1] > 40 and shares[-1] > shares[0]
    for suffix in ("png", "html"):
        file = tmp_path / "runs" / f"qd_walker.{suffix}"
        assert file.stat().st_size > 10_000 and file.name in output


def test_physics(tmp_path: pathlib.Path) -> None:
    output = run("grad_through_physics.py", tmp_path)
    numbers = re.search(r"mean return (\S+) before, (\S+) after", output)
    assert numbers is not None
    assert float(numbers[2]) > 75 > 20 > float(numbers[1])


@pytest.mark.slow
def test_digits(tmp_path: pathlib.Path) -> None:
    output = run("train_digits.py", tmp_path)
    right = re.search(r"450 test images: ([\d.]+)% right", output)
    assert right is not None and float(right[1]) >= 97


@pytest.mark.slow
def test_brax(tmp_path: pathlib.Path) -> None:
    # Ten generations; all hundred take minutes.
    output = run("evolve_brax.py", tmp_path, "10")
    numbers = re.search(r"mean return (\S+) before, (\S+) after", output)
    assert numbers is not None
    assert float(numbers[2]) > 1.25 * float(numbers[1])
    for suffix in ("eqx", "png", "html"):
        (file,) = (tmp_path / "runs").glob(f"*.{suffix}")
        assert file.stat().st_size > 1000 and file.name in output
