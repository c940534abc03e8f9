"""Hypothesis looks for a way to lose, double or misjudge a guest; what it finds it makes short."""

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from scenario import SETTLING, Run, Scenario, Start
from schedules import NODES, STEPS

nodes = st.sampled_from(NODES)
delays = st.sampled_from((0, 0.001, 0.02, 0.3, 2))
seconds = st.sampled_from((0.1, 1, 10, 29, 40, 100))
breaks = st.builds(
    "{} {} for {}".format,
    st.sampled_from(
        ("kill libvirtd", "stop libvirtd", "cut ssh", "cut data", "cut both", "fill", "power off")
    ),
    nodes,
    seconds,
)
faults = breaks | st.builds(
    "{} {}".format,
    st.sampled_from(("kill qemu web1 on", "reset", "drop", "recover web1 on")),
    nodes,
)
call_faults = st.sampled_from(
    ("die before", "die after", "refused", "lost", "late 0.2", "late 20", "early 5", "twice 1")
)


class Operations(RuleBasedStateMachine):
    """Somebody migrates, recovers and cancels, while a lot goes wrong."""

    @initialize(
        persistent=st.booleans(),
        paused=st.booleans(),
        busy=st.booleans(),
        definitions=st.sampled_from(("shared", "defined")),
        locks=st.booleans(),
        activates=st.booleans(),
    )
    def begin(self, persistent, paused, busy, definitions, locks, activates):
        rates = {"rate": 64, "dirty": 100, "working_set": 120} if busy else {}
        # What starts by itself when its node boots needs no handover to run twice.
        start = Start("node1", persistent, persistent and locks, paused and not busy, **rates)
        self.commands = []
        found = Scenario((), {"web1": start}, definitions=definitions, locks=locks)
        self.run = Run(replace(found, activates=activates), keep_log=False)

    def do(self, command):
        self.commands.append(command)
        self.run.do(command)

    @rule(step=st.sampled_from((*STEPS, "post-copy")), delay=delays, fault=faults)
    def arm(self, step, delay, fault):
        self.do(f"on step {step} + {delay}: {fault}")

    @rule(call=st.integers(1, 40), fault=call_faults)
    def arm_call(self, call, fault):
        self.do(f"on call {call}: {fault}")

    @rule(fault=faults)
    def fault(self, fault):
        self.do(f"fault {fault}")

    @rule(
        destination=nodes,
        options=st.sampled_from(("", " post_copy=true auto_converge=false", " live=false")),
    )
    def migrate(self, destination, options):
        self.do(f"migrate web1 to {destination} timeout=20 patience=20{options}")

    @rule(node=nodes)
    def recover(self, node):
        self.do(f"recover web1 on {node}")

    @rule(node=nodes)
    def cancel(self, node):
        self.do(f"cancel web1 on {node}")

    @rule(some=seconds)
    def wait(self, some):
        self.do(f"wait {some}")

    @rule()
    def heal(self):
        self.do("heal")

    @invariant()
    def nothing_is_wrong(self):
        assert not self.run.world.wrong, (self.run.world.wrong, self.commands)

    def teardown(self):
        if hasattr(self, "run"):
            for command in ("heal", f"wait {SETTLING}", "settle web1 on node3"):
                self.do(command)
            self.nothing_is_wrong()


Operations.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=12,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestOperations = Operations.TestCase
