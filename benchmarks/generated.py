"""A cluster of any size: valid pillar and identities, with random keys."""

import base64
import random

from saltext_kvmcluster.core.trust.identity import PublicKey


def pillar(size):
    """Return the pillar of a cluster of ``size`` nodes, three names each."""
    nodes = {
        f"node{n}": {"names": [f"node{n}.bench.example"], "migration": f"node{n}-mig"}
        for n in range(1, size + 1)
    }
    return {"kvmcluster": {"name": "bench", "nodes": nodes, "ssh": {"unsigned": "accept"}}}


def mine(size):
    """Return every node's identity: an RSA cluster key of 4096 bits and three host keys."""
    random.seed(size)
    return {f"node{n}": _identity(f"node{n}") for n in range(1, size + 1)}


def signed(identities):
    """Return identities with what has the size of a signature, once their keys are in place."""
    return {node: {**one, "signatures": [_signature()]} for node, one in identities.items()}


def _identity(node):
    cluster_key = _rsa(4096)
    host_keys = [_rsa(3072), _ed25519(), _ecdsa()]
    return {
        "node": node,
        "login": "root",
        "cluster_key": str(cluster_key),
        "cluster_fingerprint": cluster_key.fingerprint,
        "host_keys": [{"key": str(key), "fingerprint": key.fingerprint} for key in host_keys],
        "time": "2026-01-01T00:00:00+00:00",
    }


def _signature():
    """Return what has the form and the size of a signature by an RSA key of 4096 bits."""
    body = base64.b64encode(random.randbytes(1090)).decode()
    lines = "\n".join(body[at : at + 70] for at in range(0, len(body), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n"


def _rsa(bits):
    modulus = random.getrandbits(bits) | 1 << bits - 1 | 1
    return _key("ssh-rsa", b"\x01\x00\x01", b"\x00" + modulus.to_bytes(bits // 8, "big"))


def _ed25519():
    return _key("ssh-ed25519", random.randbytes(32))


def _ecdsa():
    return _key("ecdsa-sha2-nistp256", b"nistp256", b"\x04" + random.randbytes(64))


def _key(kind, *fields):
    wire = b"".join(len(f).to_bytes(4, "big") + f for f in (kind.encode(), *fields))
    return PublicKey(kind, base64.b64encode(wire).decode())
