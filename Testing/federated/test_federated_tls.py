"""TLS between site, run and coordinator: what passes can't be read, and nobody gets in without the authority."""

from __future__ import annotations

import datetime
import ipaddress
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flower_federation import free_port
from IRAILib.cohort.federated.processes import Running, Tls, start_site, start_superlink, submit, wait_for_result
from IRAILib.geometry import InputError, RefusedError
from traffic import Recorder


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Signed by itself, for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256()))
    (folder / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "k.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM,
                                                     serialization.PrivateFormat.PKCS8,
                                                     serialization.NoEncryption()))
    return Tls(str(folder / "c.pem"), str(folder / "c.pem"), str(folder / "k.pem"))


def joined(site: Running, wait_s: float) -> bool:
    """Whether the SuperNode has been given its number within wait_s."""
    until = time.monotonic() + wait_s
    while time.monotonic() < until and site.alive:
        if "SuperNode ID" in site.log.read_text(encoding="utf-8"):
            return True
        time.sleep(0.2)
    return False


def started(home: Path, plan, address: str, tls: Tls, wait_s: float = 40) -> Path:
    """A run, as soon as the SuperLink listens."""
    until = time.monotonic() + wait_s
    while True:
        try:
            return submit(home, plan, address, tls=tls)
        except RefusedError:
            if time.monotonic() > until:
                raise


def test_a_run_and_a_site_over_tls(tmp_path: Path, certificate: Tls) -> None:
    from federated_cases import PLAN

    port = free_port()
    (tmp_path / "site.json").write_text(json.dumps({}), encoding="utf-8")
    running = [start_superlink(tmp_path / "link", "127.0.0.1", port, tls=certificate, wait_for_sites_s=1)]
    safe, bare = Recorder(port), Recorder(port)
    try:
        result = started(tmp_path / "link", replace(PLAN, n_sites=2), f"127.0.0.1:{port}",
                         Tls(certificate.authority))
        with pytest.raises(RefusedError, match="0 of 2 sites came"):
            wait_for_result(result, 60)
        running += [start_site(tmp_path / name, tmp_path / "site.json", f"127.0.0.1:{recorder.port}", free_port(),
                               tls=tls) for name, recorder, tls in (("safe", safe, Tls(certificate.authority)),
                                                                    ("bare", bare, Tls()))]
        assert joined(running[1], 60)
        assert not joined(running[2], 3)
        assert b"/v1/fleet" not in safe.bytes_both()
        assert b"/v1/fleet" in bare.bytes_up(), "the search must find what is not encrypted"
    finally:
        for process in running:
            process.stop()
        safe.close()
        bare.close()


def test_without_tls_only_loopback_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "site.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="reachable by others"):
        start_superlink(tmp_path, "0.0.0.0", 9)
    with pytest.raises(InputError, match="another machine"):
        start_site(tmp_path, tmp_path / "site.json", "hospital.example:9", 10)
    with pytest.raises(InputError, match="no such file"):
        start_site(tmp_path, tmp_path / "none.json", "127.0.0.1:9", 10)
