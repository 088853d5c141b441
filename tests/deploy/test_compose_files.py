"""What must hold of the compose files, whether an engine is there or not."""

import re
from typing import Any

import pytest
from tests.deploy import compose_files as compose
from tests.deploy.compose_files import MAIN, ONE_SHOT, OURS

SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN")
MAIN_SERVICES = [(service, definition) for _, service, definition in compose.services(MAIN)]


@pytest.mark.parametrize(("file", "service", "definition"), compose.services())
def test_only_loopback_is_published(file: str, service: str, definition: dict[str, Any]) -> None:
    for port in definition.get("ports", []):
        assert compose.with_defaults(port).startswith("127.0.0.1:"), f"{file}: {service} publishes {port}"
    assert "network_mode" not in definition


def test_the_servers_have_no_way_out_and_are_not_published() -> None:
    main = compose.read(MAIN)
    assert main["networks"]["servers"] == {"internal": True}
    for server in ("postgres", "valkey", "s3"):
        assert main["services"][server]["networks"] == ["servers"]
        assert "ports" not in main["services"][server]


def test_big_analyses_go_to_the_gpu_workers_where_there_are_some() -> None:
    name = "HSAE_GPU_ANALYSIS_MINUTES"
    with_gpu, without = (compose.read(file)["services"]["admin"]["environment"][name] for file in (MAIN, compose.CPU))
    assert (compose.with_defaults(with_gpu), compose.with_defaults(without)) == ("10", "inf")


@pytest.mark.parametrize(("file", "service", "definition"), compose.services())
def test_every_image_is_pinned(file: str, service: str, definition: dict[str, Any]) -> None:
    image = definition.get("image")
    if image is None:
        assert file != MAIN
        return
    name, colon, tag = compose.with_defaults(image).rpartition(":")
    assert colon, f"{file}: {service}: {image} has no tag"
    assert name
    assert tag != "latest"
    assert "/" not in tag
    if service not in OURS:
        assert re.search(r"\d", tag), f"{file}: {service}: {image} names no version"
    assert image.startswith("${"), f"{file}: {service}: {image} cannot be replaced by a variable"


@pytest.mark.parametrize("file", compose.ALL)
def test_no_secret_has_a_default(file: str) -> None:
    for name, operator, text in compose.variables(file):
        if SECRET.search(name):
            assert operator == ":?", f"{file}: {name} is not required"
            assert text


@pytest.mark.parametrize("file", compose.ALL)
def test_no_secret_is_written_out(file: str) -> None:
    for _, service, definition in compose.services(file):
        for name, value in (definition.get("environment") or {}).items():
            if SECRET.search(name) and value is not None:
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{file}: {service}: {name}"


@pytest.mark.parametrize(("service", "definition"), MAIN_SERVICES)
def test_no_service_has_more_rights_than_it_needs(service: str, definition: dict[str, Any]) -> None:
    assert "privileged" not in definition
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert definition["cap_drop"] == ["ALL"]
    if service != "postgres":  # its image starts as root to make its folder, then becomes postgres
        assert "cap_add" not in definition
    for volume in definition.get("volumes", []):
        assert "docker.sock" not in volume


@pytest.mark.parametrize("service", OURS)
def test_our_services_run_as_nobody_in_particular_and_write_nothing(service: str) -> None:
    definition = compose.read(MAIN)["services"][service]
    assert definition["user"] == "10001:10001"
    assert definition["read_only"] is True
    assert definition["init"] is True
    for volume in definition.get("volumes", []):
        is_cache = volume == "models:/var/lib/hsae/models"
        is_cache |= service == "worker-gpu" and volume == "kernels:/var/lib/hsae/kernels"
        assert volume.endswith(":ro") or is_cache


@pytest.mark.parametrize(("service", "definition"), MAIN_SERVICES)
def test_every_lasting_service_is_checked_restarted_and_limited(service: str, definition: dict[str, Any]) -> None:
    limits = definition["deploy"]["resources"]["limits"]
    assert limits["memory"]
    assert limits["pids"]
    assert definition["logging"]["options"]["max-size"]
    if service in ONE_SHOT:
        assert definition["restart"] == "no"
        return
    assert definition["restart"] == "unless-stopped"
    assert definition["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert definition["healthcheck"]["timeout"]


@pytest.mark.parametrize("service", ["worker-gpu", "worker-cpu", "metrics"])
def test_work_starts_after_healthy_servers_and_the_migration(service: str) -> None:
    needs = compose.read(MAIN)["services"][service]["depends_on"]
    assert {name: needs[name]["condition"] for name in needs} == {
        "postgres": "service_healthy",
        "valkey": "service_healthy",
        "s3": "service_healthy",
        "migrate": "service_completed_successfully",
    }


def test_a_gpu_worker_can_compile_kernels_and_share_memory() -> None:
    """A tmpfs is noexec, and Docker's /dev/shm has 64 MB."""
    content = compose.read(MAIN)
    worker = content["services"]["worker-gpu"]
    assert "kernels:/var/lib/hsae/kernels" in worker["volumes"]
    assert set(content["services"]["worker-cpu"]["volumes"]) < set(worker["volumes"])
    assert compose.with_defaults(worker["shm_size"]) == "2g"
    for file in (MAIN, compose.SECOND_MACHINE):
        assert "kernels" in compose.read(file)["volumes"]


@pytest.mark.parametrize("service", ["worker-gpu", "worker-cpu"])
def test_a_worker_has_time_to_hand_its_job_back(service: str) -> None:
    grace = compose.read(MAIN)["services"][service]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > 30


def test_postgres_18_keeps_its_data_where_the_volume_is() -> None:
    postgres = compose.read(MAIN)["services"]["postgres"]
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
    assert postgres["environment"]["PGDATA"] == "/var/lib/postgresql/18/docker"


def test_flower_asks_for_a_password() -> None:
    assert "FLOWER_PASSWORD:?" in compose.read(MAIN)["services"]["flower"]["environment"]["FLOWER_BASIC_AUTH"]


def test_the_explorer_can_only_read() -> None:
    definition = compose.read(MAIN)["services"]["explorer"]
    environment = definition["environment"]
    assert environment["HSAE_DATABASE_URL"].startswith("postgresql://hsae_reader:${HSAE_READER_PASSWORD:?")
    assert "POSTGRES_PASSWORD" not in str(definition)
    assert "HSAE_BROKER_URL" not in environment
    assert all(volume.endswith(":ro") for volume in definition["volumes"])
    assert "${HSAE_DATA:-images}:/data:ro" in definition["volumes"]  # where the listings say that images are
    assert definition["depends_on"]["migrate"]["condition"] == "service_completed_successfully"  # it lets the role in
    assert "/healthz" in str(definition["healthcheck"]["test"])


def test_monitoring_is_a_profile_whose_files_exist() -> None:
    for service, definition in MAIN_SERVICES:
        assert (definition.get("profiles") == ["monitoring"]) == (service in {"metrics", "prometheus", "grafana"})
        for volume in definition.get("volumes", []):
            if volume.startswith("./"):
                assert (compose.ROOT / volume.split(":")[0]).is_dir(), f"{service} mounts {volume}"
