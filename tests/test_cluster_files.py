"""What launch/slurm would start, with stubs in SLURM's place, and the manifests against Kubernetes' own schemas."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from fedsim.cli.options import parse

LAUNCH = Path(__file__).parent.parent / "launch"
SCRIPT, MANIFESTS = LAUNCH / "slurm", LAUNCH / "kubernetes"
VERSIONS = ["1.31", "1.37"]  # the first in which nothing of the manifests is a beta, and a late one
JOB = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "gpu[07-08]"}
STUBS = {
    "scontrol": 'if [ "$1" = show ]; then printf "gpu07\\ngpu08\\n"; fi',
    "scancel": 'kill -TERM "$(cat pid)"',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    # Ends with status DOES, or where that is "wait" only by SIGTERM, with status AT_LAST.
    "torchrun": 'if [ "$DOES" != wait ]; then exit "$DOES"; fi\n'
                'trap \'exit "$AT_LAST"\' TERM\necho $$ > pid.part && mv pid.part pid\nwhile :; do sleep 0.05; done',
}


def text(*words: str, **surroundings: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | surroundings).stdout


class Batch:
    """launch/slurm as SLURM would run it, in a folder with stubs; `log` has every call of one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None
        for name, what in STUBS.items():
            stub = folder / name
            stub.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> log\n{what}\n')
            stub.chmod(0o755)

    def start(self, *options: str, **surroundings: str) -> None:
        plain = {name: value for name, value in os.environ.items() if name != "RANKS" and not name.startswith("SLURM_")}
        told = JOB | {"PATH": f"{self.folder}:{os.environ['PATH']}", "DOES": "0", "AT_LAST": "143"} | surroundings
        self.process = subprocess.Popen(["bash", SCRIPT, *options], cwd=self.folder, env=plain | told)

    def wait_for_torchrun(self) -> None:
        limit = time.monotonic() + 20
        while not (self.folder / "pid").exists():
            assert time.monotonic() < limit
            time.sleep(0.01)

    def ends(self) -> int:
        return self.process.wait(20)

    def calls(self, of: str) -> list[str]:
        lines = (self.folder / "log").read_text().splitlines()
        return [line for line in lines if line.split()[0] == of]


@pytest.fixture
def batch(tmp_path) -> Iterator[Batch]:
    job = Batch(tmp_path)
    yield job
    if job.process and job.process.poll() is None:
        job.process.kill()


def test_a_torchrun_on_every_machine_meets_the_others_at_the_first_of_them(batch):
    batch.start("--algo", "avg", "--cars", "8", RANKS="4")
    assert batch.ends() == 0
    torchrun, = batch.calls("torchrun")
    assert torchrun == (
        "torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d --rdzv_endpoint=gpu07:24711 --rdzv_id=4711 "
        "-m fedsim.main --out runs/slurm-4711 --resume auto --algo avg --cars 8")
    assert batch.calls("srun") == [f"srun --kill-on-bad-exit=0 {torchrun}"]
    assert batch.calls("scontrol") == ["scontrol show hostnames gpu[07-08]"]


@pytest.mark.parametrize(("surroundings", "ranks"), [
    ({}, 1), ({"SLURM_CPUS_PER_TASK": "6"}, 6), ({"SLURM_CPUS_PER_TASK": "6", "SLURM_GPUS_ON_NODE": "2"}, 2),
    ({"SLURM_GPUS_ON_NODE": "2", "RANKS": "8"}, 8)])
def test_a_machine_has_as_many_ranks_as_gpus_else_cpus_unless_it_is_told(batch, surroundings, ranks):
    batch.start(**surroundings)
    assert batch.ends() == 0
    assert f"--nproc_per_node={ranks} " in batch.calls("torchrun")[0]


def test_what_the_script_asks_of_fedsim_are_options_of_it(batch):
    batch.start("--rounds", "3")
    assert batch.ends() == 0
    assert parse(batch.calls("torchrun")[0].split("fedsim.main ")[1].split()) is not None


def test_before_the_time_is_up_the_ranks_stop_and_the_job_is_queued_again(batch):
    """The order counts: a job that is queued again before its ranks have stopped is killed in the middle."""
    batch.start(DOES="wait")
    batch.wait_for_torchrun()
    batch.process.send_signal(signal.SIGUSR1)
    assert batch.ends() == 143
    assert batch.calls("scancel") == ["scancel --signal=TERM 4711"]
    assert (batch.folder / "log").read_text().splitlines()[-1] == "scontrol requeue 4711"


def test_a_run_that_ends_well_after_the_warning_is_not_queued_again(batch):
    batch.start(DOES="wait", AT_LAST="0")
    batch.wait_for_torchrun()
    batch.process.send_signal(signal.SIGUSR1)
    assert batch.ends() == 0
    assert batch.calls("scancel") and not [call for call in batch.calls("scontrol") if "requeue" in call]


def test_a_run_that_fails_without_a_warning_is_not_queued_again(batch):
    batch.start(DOES="3")
    assert batch.ends() == 3
    assert not [call for call in batch.calls("scontrol") if "requeue" in call]


def test_a_job_that_is_preempted_waits_for_its_ranks_and_leaves_queueing_to_slurm(batch):
    batch.start(DOES="wait")
    batch.wait_for_torchrun()
    batch.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert batch.process.poll() is None
    text("bash", "-c", f"kill -TERM {(batch.folder / 'pid').read_text()}")
    assert batch.ends() == 143
    assert not [call for call in batch.calls("scontrol") if "requeue" in call]


def test_slurm_warns_early_enough_for_torchrun_to_wait_for_the_round():
    script = SCRIPT.read_text()
    warning, = re.findall(r"^#SBATCH --signal=B:USR1@(\d+)$", script, re.MULTILINE)
    patience, = re.findall(r"SHUTDOWN_TIMEOUT=(\d+)", script)
    assert int(patience) < int(warning)


def test_shellcheck_finds_nothing_in_the_script():
    found = subprocess.run([Path(sys.executable).with_name("shellcheck"), SCRIPT], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def manifests() -> list[dict]:
    return [manifest for path in sorted(MANIFESTS.glob("*.yaml")) for manifest in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> dict:
    manifest, = [manifest for manifest in manifests() if manifest["kind"] == kind]
    return manifest


@pytest.fixture(scope="module")
def pod() -> dict:
    return of_kind("Job")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod) -> dict:
    only, = pod["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", manifests(), ids=lambda manifest: manifest["kind"])
def test_a_manifest_fits_the_schema_of_its_kind_and_has_no_field_that_is_not_in_it(manifest, version):
    kubernetes_validate.utils.validate(manifest, version, strict=True)


def torchrun_of(container: dict, index: int, folder: Path) -> list[str]:
    """The words with which a pod starts Python."""
    stub = folder / "python"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    return text(*container["command"], *container["args"], PATH=f"{folder}:{os.environ['PATH']}",
                JOB_COMPLETION_INDEX=str(index)).splitlines()


@pytest.mark.parametrize("index", [0, 1])
def test_pods_start_as_many_torchruns_as_there_are_and_the_first_keeps_the_store(container, index, tmp_path):
    words = torchrun_of(container, index, tmp_path)
    job, service = of_kind("Job"), of_kind("Service")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert words[:2] == ["-m", "fedsim.distributed.torchrun"]
    split = words.index("-m", 2)
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2 and "--nnodes=2" in words[:split]
    assert f"--rdzv_endpoint={job['metadata']['name']}-0.{name}:{port}" in words[:split]
    assert f"--rdzv_conf=is_host={int(index == 0)}" in words[:split]
    assert words[split + 1] == "fedsim.main" and parse(words[split + 2:]) is not None


def test_the_service_and_the_network_policy_are_about_the_pods_of_the_job(pod):
    labels, name = of_kind("Job")["spec"]["template"]["metadata"]["labels"], of_kind("Service")["metadata"]["name"]
    assert of_kind("Service")["spec"]["selector"] == labels and pod["subdomain"] == name
    policy = of_kind("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": labels}}]}]


def test_a_run_lies_on_a_volume_that_all_machines_may_write_and_the_cache_does_not(pod, container):
    claim = of_kind("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    shared, = [volume["name"] for volume in pod["volumes"]
               if volume.get("persistentVolumeClaim", {}).get("claimName") == claim["metadata"]["name"]]
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    surroundings = {entry["name"]: entry["value"] for entry in container["env"]}
    assert any(word.startswith(f"--out={places[shared]}/") for word in container["args"])
    assert not surroundings["FEDSIM_CACHE"].startswith(places[shared])


def test_a_pod_has_time_for_what_torchrun_waits_for(pod, container):
    patience, = [int(entry["value"]) for entry in container["env"] if entry["name"] == "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]
    assert patience < pod["terminationGracePeriodSeconds"]


def test_a_pod_has_no_privilege(pod, container):
    """What the restricted Pod Security Standard asks for, and no token of the cluster."""
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_the_image_holds_what_the_job_starts():
    copied = re.findall(r"^COPY (.+) \S+$", (MANIFESTS / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert {"fedsim", "setup.cfg"} <= set(sources)
    assert all((LAUNCH.parent / source).exists() for source in sources)
