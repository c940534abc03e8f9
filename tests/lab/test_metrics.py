"""A real Prometheus is told by a real node_exporter what the master's schedule sees."""

import json
import pathlib

import pytest
from test_reactor import restart, until

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = "/srv/metrics"
FILE = f"{FOLDER}/kvmcluster.prom"
SCHEDULE = "/etc/salt/master.d/kvmcluster-metrics.conf"
EXPORTER = (
    "prometheus-node-exporter --collector.disable-defaults --collector.textfile"
    f" --collector.textfile.directory={FOLDER} --web.listen-address=127.0.0.1:9100"
)
PROMETHEUS = (
    f"prometheus --config.file={FOLDER}/prometheus.yml --storage.tsdb.path={FOLDER}/data"
    " --web.listen-address=127.0.0.1:9090"
)
CONFIGURATION = f"""
global: {{scrape_interval: 2s, evaluation_interval: 2s}}
rule_files: [{ROOT}/contrib/kvmcluster.rules.yml]
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:9100"]}}]
"""
GUEST = "web1"


def documented():
    """Return the schedule of docs/monitoring.md, which looks every 10 seconds here."""
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    wanted = text.split("```yaml\n")[1].split("```")[0]
    return wanted.replace("minutes: 2", "seconds: 10").replace(
        "/var/lib/prometheus/node-exporter", FOLDER
    )


@pytest.fixture
def monitored(lab):
    """The lab with a listed guest, the schedule, node_exporter and Prometheus on the master."""
    lab.guest(GUEST, "node1")
    lab.exec("master", "mkdir", "-p", FOLDER)
    lab.write("master", f"{FOLDER}/prometheus.yml", CONFIGURATION)
    lab.write("master", SCHEDULE, documented())
    pids = []
    with lab.pillar() as pillar:
        guests = pillar.data["kvmcluster"]["guests"]
        pillar.data["kvmcluster"]["guests"] = {**guests, "path": "/srv/guests", "list": {GUEST: {}}}
        pillar.save()
        restart(lab)
        lab.refresh_pillar()
        for program in (EXPORTER, PROMETHEUS):
            begun = f"setsid {program} </dev/null >>{FOLDER}/log 2>&1 & echo $!"
            pids += lab.exec("master", "sh", "-c", begun).split()
        yield lab
    lab.exec("master", "kill", *pids, check=False)
    lab.exec("master", "rm", "-rf", SCHEDULE, FOLDER)
    restart(lab)
    lab.refresh_pillar()
    lab.stop_guest(GUEST)


def asked(lab, question):
    """Return what Prometheus answers, nothing while it does not."""
    url = f"http://127.0.0.1:9090/api/v1/{question}"
    said = lab.exec("master", "curl", "-sg", url, check=False)
    return json.loads(said)["data"] if said else {}


def figures(lab, name):
    found = asked(lab, f"query?query={name}").get("result", [])
    return [(one["metric"], float(one["value"][1])) for one in found]


def alerts(lab):
    return {
        (one["labels"]["alertname"], one["labels"].get("guest")): one["state"]
        for one in asked(lab, "alerts").get("alerts", [])
    }


@pytest.mark.nightly
def test_an_alert_fires_for_a_listed_guest_that_was_killed(monitored):
    lab, down = monitored, ("KvmclusterListedGuestDown", GUEST)
    until(
        lambda: [value for _, value in figures(lab, "kvmcluster_listed_guest_up")] == [1.0],
        "Prometheus is not told that the guest runs",
        180,
    )
    until(lambda: not alerts(lab), "there is an alert though all is well", 60)
    lab.ctl("kill", "node1", f"qemu:{GUEST}")
    until(lambda: alerts(lab).get(down) == "firing", "no alert fires", 300)
    assert set(alerts(lab)) == {down}, "and no other one"
    lab.stop_guest(GUEST)
    lab.guest(GUEST, "node1")
    until(lambda: down not in alerts(lab), "the alert does not end", 180)
