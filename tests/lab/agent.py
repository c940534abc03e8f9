"""A lasting process on one place of the lab, which runs what it is asked to.

agent.py [salt]: with that word it has Salt loaded, and forks for each command of Salt's instead of
starting a Python that loads it anew. Without, it has libvirt loaded, and forks for a look at it.

One line of JSON comes in for each request: its ``id``, ``argv`` or ``call`` (a name in ``CALLS``,
with ``arguments``), ``stdin`` and ``timeout`` in seconds. One goes out when it has ended: ``id``,
``code`` as of ``subprocess``, None if the time was over, ``out`` and ``err``. Requests run side by
side, and end when the input does.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import traceback

CALLS = {}


class Job:
    """A request that is at work. Its output is a file, so that nothing waits for its children."""

    def __init__(self, request):
        self.id = request["id"]
        self.out, self.err = os.memfd_create("out"), os.memfd_create("err")
        self.end = time.monotonic() + request["timeout"]
        start = self._forked if "call" in request else self._executed
        self.pid = start(request)
        self.handle = os.pidfd_open(self.pid)

    def _executed(self, request):
        stdin = os.open("/dev/null", os.O_RDONLY)
        if request["stdin"] is not None:
            os.close(stdin)
            stdin = os.memfd_create("in")
            os.write(stdin, request["stdin"].encode())
            os.lseek(stdin, 0, os.SEEK_SET)
        try:
            process = subprocess.Popen(
                request["argv"], stdin=stdin, stdout=self.out, stderr=self.err
            )
        finally:
            os.close(stdin)
        process.returncode = 0  # It is waited for here, by its number.
        return process.pid

    def _forked(self, request):
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(self.out, 1)
            os.dup2(self.err, 2)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            code = CALLS[request["call"]](*request["arguments"])
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or 0)

    def over(self):
        """Return what there is to tell of it once it has ended, None before."""
        late = time.monotonic() > self.end
        if late:
            os.kill(self.pid, signal.SIGKILL)
        pid, status = os.waitpid(self.pid, 0 if late else os.WNOHANG)
        if not pid:
            return None
        os.close(self.handle)
        code = None if late else os.waitstatus_to_exitcode(status)
        return {"id": self.id, "code": code, "out": taken(self.out), "err": taken(self.err)}


def taken(descriptor):
    """Return what a file in memory holds, and close it."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")


def serve():
    waiting, jobs, rest = selectors.DefaultSelector(), [], b""
    waiting.register(0, selectors.EVENT_READ)
    while True:
        soonest = min((job.end for job in jobs), default=None)
        waiting.select(soonest and max(0.0, soonest - time.monotonic()))
        if any(key.fd == 0 for key, _ in waiting.select(0)):
            found = os.read(0, 1 << 16)
            if not found:
                for job in jobs:
                    os.kill(job.pid, signal.SIGKILL)
                return
            *lines, rest = (rest + found).split(b"\n")
            for line in lines:
                for job in begun(json.loads(line)):
                    jobs.append(job)
                    waiting.register(job.handle, selectors.EVENT_READ)
        for job in [*jobs]:
            handle = job.handle
            if answer := job.over():
                waiting.unregister(handle)
                jobs.remove(job)
                reply(answer)


def begun(request):
    """Return the job of a request, in a list; none if the command is not to be had."""
    try:
        return [Job(request)]
    except OSError as error:
        reply({"id": request["id"], "code": 127, "out": "", "err": f"{error}\n"})
        return []


def reply(answer):
    print(json.dumps(answer), flush=True)


def load_salt():
    """Load what the commands of Salt's need, and put them into ``CALLS``."""
    import salt.cli.batch
    import salt.cli.run
    import salt.cli.salt
    import salt.client
    import salt.config
    import salt.master
    import salt.minion
    import salt.output
    import salt.runner
    import salt.scripts
    import salt.transport.tcp
    import salt.utils.args
    import salt.utils.verify

    import saltext_kvmcluster.runners.kvmcluster  # noqa: F401

    def command(*words):
        """Be a command of Salt's, with its words and its exit code."""
        sys.argv = [*words]
        main = {"salt": salt.scripts.salt_main, "salt-run": salt.scripts.salt_run}
        return main[words[0]]()

    def configured():
        """Return the master's configuration; this process becomes its account's, as commands do."""
        opts = salt.config.client_config("/etc/salt/master")
        assert salt.utils.verify.check_user(opts["user"])
        return opts

    def ask(nodes, function, arguments, patience):
        """Print what nodes returned, by node, as JSON."""
        given = salt.utils.args.parse_input(arguments)
        with salt.client.LocalClient(mopts=configured()) as client:
            found = client.cmd(nodes, function, given, timeout=patience, tgt_type="list")
        print(json.dumps(found))

    def run(function, arguments):
        """Print what a runner's function returned, as JSON."""
        with salt.runner.RunnerClient(configured()) as client:
            found = client.cmd(function, arguments, print_event=False)
        if isinstance(found, dict) and set(found) == {"data", "outputter"}:
            found = found["data"]
        print(json.dumps(found))

    CALLS.update(command=command, ask=ask, run=run)


def load_libvirt():
    """Load what a look at libvirt needs, and put it into ``CALLS``."""
    import libvirt

    outgoing = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT

    def side(domain):
        """Return which half of a migration a guest is, None if of none."""
        try:
            job = domain.jobStats()
        except libvirt.libvirtError as error:
            return "incoming" if "only on the source" in str(error) else None
        under_way = job["type"] != libvirt.VIR_DOMAIN_JOB_NONE
        return "outgoing" if under_way and job.get("operation") == outgoing else None

    def guests():
        """Print the active guests: whether each runs, and which half of a migration it is."""
        connection = libvirt.openReadOnly("qemu:///system")
        found = {}
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            with contextlib.suppress(libvirt.libvirtError):  # It has gone meanwhile.
                running = domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
                found[domain.name()] = [running, side(domain)]
        print(json.dumps(found))

    # A look that fails says so by its exit code, in which virsh's own words are of no use.
    libvirt.registerErrorHandler(lambda *_: None, None)
    CALLS.update(guests=guests)


if __name__ == "__main__":
    if sys.argv[1:] == ["salt"]:
        load_salt()
    else:
        load_libvirt()
    serve()
