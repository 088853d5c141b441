"""jobs watch, list and show: what a person reads."""

import json

import pytest
from rich.console import Console
from sqlalchemy import text
from tests.small import register_small, small_request

from hsae.catalog import transaction
from hsae.cli.jobs import progress
from hsae.cli.jobs.progress import render, title_forms
from hsae.pipeline.planning.submit import submit

JOB = {
    "id": 1, "state": "queued", "title": "train topk SAE x8 of dinov2-base layer 8", "queue": "gpu", "priority": 0,
    "attempt": 0, "max_attempts": 3, "outages": 0, "pause_seconds": None, "error": None, "gpu_memory_bytes": None,
    "progress_done": None, "progress_total": None, "progress_unit": None, "progress_rate": None, "eta_seconds": None,
    "progress_note": None,
}  # fmt: skip


def screen(jobs, *, width: int = 160, height: int | None = None) -> list[str]:
    console = Console(width=width, height=height or 1000, legacy_windows=False)
    with console.capture() as capture:
        console.print(render([JOB | job for job in jobs], height, width))
    return capture.get().rstrip("\n").split("\n")


def test_a_running_job():
    (_, row, total) = screen(
        [
            {
                "state": "running", "progress_done": 50, "progress_total": 200, "progress_unit": "vectors",
                "attempt": 2, "progress_rate": 10.0, "progress_note": "loss 0.1234",
                "eta_seconds": 15.0, "gpu_memory_bytes": 3 * 10**9, "priority": 4,
            }
        ]
    )  # fmt: skip
    for words in ("▶", "10 vectors/s", "loss 0.1234", "15 s", "priority 4", "attempt 2/3", "3.0 GB of GPU memory"):
        assert words in row
    assert total == "0 of 1 jobs done"


def test_a_job_that_backs_off_and_one_that_failed():
    _, waiting, failed, _ = screen(
        [
            {"pause_seconds": 11.7, "error": "the S3 server is away", "outages": 2, "attempt": 1},
            {"id": 2, "state": "failed", "error": "NaN in layer 3"},
        ]
    )
    for words in ("again in 12 s", "attempt 1/3 (+2 outages)", "the S3 server is away"):
        assert words in waiting
    assert "failed" in failed
    assert "NaN in layer 3" in failed


def test_many_jobs_fit_into_the_terminal():
    jobs = [{"id": i, "state": "succeeded"} for i in range(1, 100)]
    jobs += [{"id": i, "state": "waiting"} for i in range(100, 190)]
    jobs += [{"id": 190, "state": "running"}, {"id": 191, "state": "failed", "error": "broken"}]
    jobs += [{"id": 192, "pause_seconds": 3.0}, {"id": 193, "state": "failed", "error": "needs job 191, which failed"}]
    jobs += [{"id": i} for i in range(194, 201)]
    lines = screen(jobs, height=12, width=100)
    assert len(lines) < 12
    shown = " ".join(lines[1:-2])
    for number in ("190", "191", "192", "193"):
        assert f" {number} " in shown
    assert "remarks" in lines[-3]  # of the error, which therefore stands elsewhere
    assert "broken" in shown
    assert lines[-2] == "… and 90 waiting, 4 queued, 99 succeeded"
    assert lines[-1] == "99 of 200 jobs done"


def test_long_lines_are_cut_not_wrapped():
    lines = screen([{"id": i, "state": "failed", "error": "x" * 300} for i in (1, 2)], width=80)
    assert len(lines) == 5
    assert "train topk SAE" in lines[1]
    assert lines[1].endswith("xxx…")


def test_a_narrow_terminal_still_tells_the_jobs_apart():
    running = {"state": "running", "progress_done": 50, "progress_total": 200, "progress_unit": "vectors"}
    jobs = [running | {"id": i, "title": f"train topk SAE x8 (k=16) of dinov2-base layer {i}"} for i in (1, 2)]
    lines = screen(jobs, width=60)
    assert max(map(len, lines)) <= 60
    assert [line.split("━")[0].rstrip()[-7:] for line in lines[1:3]] == ["layer 1", "layer 2"]
    assert lines[3] == "Left out at 60 columns: rate, left, now, remarks"


def test_titles_lose_their_settings_before_the_layer():
    title = "analyze topk SAE x8 (k=16, n_steps=500) of dinov2-emoji layer 5, cls (n_views=2) on emoji (split=select a)"
    assert title_forms(title) == (
        title,
        "analyze topk SAE x8 (k=16, n_steps=500) of dinov2-emoji layer 5, cls (n_views=2) on emoji",
        "analyze topk SAE x8 of dinov2-emoji layer 5, cls on emoji",
        "analyze topk SAE x8, layer 5",
    )
    assert title_forms("extract cls of dinov2-emoji layer 0-2, 5 over emoji")[-1] == "extract cls, layer 0-2, 5"
    assert title_forms("train topk SAE x8 of dinov2-emoji layer 5, cls (n_views=2), half 1 scored")[-1] == (
        "train topk SAE x8, layer 5, half 1 scored"
    )
    assert title_forms("compare the analyses") == ("compare the analyses",)
    shown = {width: screen([{"title": title, "state": "running"}], width=width)[1] for width in (260, 170, 130, 100)}
    assert title in shown[260]
    for line in shown.values():
        assert "layer 5" in line


def test_columns_stand_still_while_jobs_go_on():
    running = {"state": "running", "progress_done": 5, "progress_total": 2000, "progress_unit": "vectors"}
    moving = running | {"progress_rate": 123456.0, "eta_seconds": 130.0, "progress_note": "loss 0.5"}
    one = {"id": 1, "title": "extract layer 0"}
    other = {"id": 2, "title": "train topk SAE of a longer name, layer 10", "progress_note": "loss 2"}
    heads = [screen([one | now, other])[0] for now in ({}, moving, {"state": "succeeded"})]
    assert heads[0] == heads[1] == heads[2]


@pytest.mark.parametrize(
    ("width", "left_out"), [(80, "left, remarks"), (100, "remarks"), (120, None), (160, None), (240, None)]
)
def test_a_terminal_s_width_alone_says_which_columns_there_are(width, left_out):
    """Loss and rate are seen at 80 columns; whatever a job says, every column keeps its place."""
    title = "train batch_topk SAE x8 (k=16, n_steps=500) of dinov2-emoji layer 11, cls (n_views=2) on emoji"
    running: dict = {"state": "running", "progress_done": 5, "progress_total": 2000, "progress_unit": "vectors"}
    train = running | {"progress_rate": 9.0, "eta_seconds": 3.0, "progress_note": "loss 0.5"}
    more: dict = {
        "progress_rate": 1234567.0,
        "eta_seconds": 754.0,
        "progress_note": "loss 1.234e-05, FVU 0.123, L0 32.0",
    }
    busy: dict = {"gpu_memory_bytes": 80 * 10**9, "attempt": 2, "priority": 5}
    waits: dict = {"pause_seconds": 754.0, "error": "the S3 server is away " * 9, "attempt": 1, "outages": 2}
    failed: dict = {"state": "failed", "error": "x" * 300}
    states: list[dict] = [{}, running, train, train | more, train | more | busy, waits, failed]
    looks = [screen([{"id": 123, "title": title} | now, {"id": 9, "title": "extract"}], width=width) for now in states]
    assert {(look[0], *look[3:]) for look in looks} == {(looks[0][0], *looks[0][3:])}
    assert looks[0][3:-1] == ([] if left_out is None else [f"Left out at {width} columns: {left_out}"])
    assert max(len(line) for look in looks for line in look) <= width
    for look in looks[3:5]:
        assert "loss 1.234e-05" in look[1]
        assert "1234567" in look[1]
    assert all("layer 11" in look[1] for look in looks)


def test_a_narrow_and_low_terminal_keeps_the_sum():
    jobs = [{"id": i, "state": "running", "progress_done": 1, "progress_total": 2} for i in range(1, 50)]
    console = Console(width=60, height=12, legacy_windows=False)
    with console.capture() as capture:
        console.print(render([JOB | job for job in jobs], 12, 60))
    lines = capture.get().splitlines()
    assert len(lines) < 12
    assert lines[-1] == "0 of 49 jobs done"
    assert "Left out at 60 columns" in lines[-3]


def test_in_a_pipe_progress_is_told_once(monkeypatch, capsys):
    def running(done: int, rate: float) -> dict:
        return {"state": "running", "progress_done": done, "progress_total": 40, "progress_unit": "images",
                "progress_rate": rate, "eta_seconds": (40 - done) / rate}  # fmt: skip

    steps = [{}, running(10, 5.0), running(40, 4.0), running(40, 3.0), running(40, 2.0), {"state": "succeeded"}]
    found = iter([[JOB | step] for step in steps])
    monkeypatch.setattr(progress, "study_jobs", lambda *_: next(found))
    monkeypatch.setattr(progress, "POLL_SECONDS", 0)
    monkeypatch.setattr(progress, "_PIPE_SECONDS", 0)
    progress._watch_lines(None, 1, Console(highlight=False, stderr=True))
    title = JOB["title"]
    assert capsys.readouterr().err.splitlines() == [
        f"job    1 running   {title}  10/40 images, 5/s, 6 s left",
        f"job    1 running   {title}  40/40 images, 4/s, 0 s left",
        f"job    1 succeeded {title}",
        "1 of 1 jobs done",
    ]


def test_list_and_show(admin, service):
    register_small(service, n_classes=2)
    plan = submit(small_request(layers=(1,), priority=5), service.settings, service.sessions)
    number = plan.jobs[0].id
    with transaction(service.sessions) as session:
        session.execute(
            text(
                "UPDATE job SET not_before = now() + interval '90 seconds', outages = 2, attempt = 1,"
                " error = 'S3 is away', gpu_memory_bytes = 2000000000 WHERE id = :id"
            ),
            {"id": number},
        )
    result = admin(service, "jobs", "list")
    assert result.exit_code == 0, (result.output, result.exception)
    table = result.stdout
    for words in ("again in 1 min", "(+2 outages)", "S3 is away", "gpu", "cpu"):
        assert words in table
    shown = admin(service, "jobs", "show", number).stdout
    for words in ("queue        gpu", "priority     5", "not before", "outages      2", "submitted", "2.0 GB at most"):
        assert words in shown
    job = json.loads(admin(service, "jobs", "show", number, "--json").stdout)
    assert (job["outages"], job["priority"], job["events"][0]["reason"]) == (2, 5, "submitted")
