"""Compose itself accepts and merges the files; needs its command line, no engine."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.deploy import compose_files as compose
from tests.deploy.compose_files import CPU, MAIN, OURS, PUBLISH, ROOT, SEAWEEDFS, SECOND_MACHINE


def _compose_is_missing() -> bool:
    if shutil.which("docker") is None:
        return True
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0


pytestmark = pytest.mark.skipif(_compose_is_missing(), reason="`docker compose` is not installed")


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("deploy") / "env"
    subprocess.run([ROOT / "deploy/make-env", file], check=True, capture_output=True)
    return file


@pytest.mark.parametrize(
    "files",
    [
        (MAIN,),
        (MAIN, CPU),
        (MAIN, SEAWEEDFS),
        (MAIN, CPU, SEAWEEDFS),
        (MAIN, PUBLISH),
        (MAIN, CPU, SEAWEEDFS, PUBLISH),
    ],
    ids="+".join,
)
def test_the_files_are_accepted_together(env_file: Path, files: tuple[str, ...]) -> None:
    merged = compose.compose_config(env_file, *files)["services"]
    assert set(OURS) < set(merged)
    reservations = merged["worker-gpu"]["deploy"]["resources"].get("reservations")
    assert (reservations is None) == (CPU in files)
    for service in OURS:
        assert merged[service]["image"] == ("hsae:cpu" if CPU in files else "hsae:cuda")
        assert ("build" in merged[service]) == (service == "migrate")  # one image, built once
    assert merged["migrate"]["build"]["target"] == ("cpu" if CPU in files else "cuda")
    for service, definition in merged.items():
        for port in definition.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", service
    assert ("MINIO_ROOT_USER" in merged["s3"]["environment"]) == (SEAWEEDFS not in files)


def test_compose_refuses_to_start_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "env").touch()
    with pytest.raises(AssertionError, match="run deploy/make-env"):
        compose.compose_config(tmp_path / "env", MAIN)


def test_settings_reach_the_containers(env_file: Path) -> None:
    merged = compose.compose_config(env_file, MAIN, HSAE_DATA="/srv/images", HSAE_MAX_ATTEMPTS="5")["services"]
    for service in ("worker-gpu", "worker-cpu", "admin"):
        assert merged[service]["environment"]["HSAE_MAX_ATTEMPTS"] == "5"
        (data,) = (volume for volume in merged[service]["volumes"] if volume["target"] == "/data")
        assert (data["type"], data["source"], data["read_only"]) == ("bind", "/srv/images", True)


def test_a_second_machine_has_workers_only(env_file: Path) -> None:
    merged = compose.compose_config(env_file, SECOND_MACHINE, HSAE_MAIN_ADDRESS="10.0.0.1", HSAE_HOST="second")
    assert set(merged["services"]) == {"worker-gpu", "worker-cpu"}
    assert merged["services"]["worker-gpu"]["build"]["context"] == str(ROOT)
    for definition in merged["services"].values():
        assert "@10.0.0.1:5432/" in definition["environment"]["HSAE_DATABASE_URL"]
        assert "@10.0.0.1:6379/" in definition["environment"]["HSAE_BROKER_URL"]
        assert definition["environment"]["HSAE_S3_ENDPOINT"] == "10.0.0.1:9000"
        assert definition["hostname"].startswith("second-")
        assert not definition.get("depends_on")
        assert definition["user"] == "10001:10001"


def test_one_worker_per_gpu(env_file: Path, tmp_path: Path) -> None:
    # The script writes beside itself, so a copy of it writes elsewhere.
    shutil.copy(ROOT / "deploy/make-gpus", tmp_path)
    subprocess.run([tmp_path / "make-gpus", "3"], check=True, capture_output=True)
    merged = compose.compose_config(env_file, MAIN, str(tmp_path / "compose.gpus.yml"))["services"]
    workers = {name: definition for name, definition in merged.items() if name.startswith("worker-gpu")}
    gpus = [
        device["device_ids"]
        for definition in workers.values()
        for device in definition["deploy"]["resources"]["reservations"]["devices"]
    ]
    assert sorted(gpus) == [["0"], ["1"], ["2"]]
    assert len({definition["hostname"] for definition in workers.values()}) == 3
    for definition in workers.values():
        assert definition["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("arguments", [[], ["0"], ["two"], ["1", "2"]])
def test_make_gpus_explains_itself(arguments: list[str], tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy/make-gpus", tmp_path)
    done = subprocess.run([tmp_path / "make-gpus", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert not (tmp_path / "compose.gpus.yml").exists()
