"""A one-node Kafka (KRaft): its jars, its settings, its process."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UsageError
from shared.stack import probes
from shared.stack.layout import HOST, checkout
from shared.stack.processes import Spec, free_ports, spawn, wait_ready

POM = Path(__file__).with_name("pom.xml")
JAVA_VERSION_MIN = 17
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
FETCH_SECONDS_MAX = 600
READY_SECONDS_MAX = 60
# The serial collector and the first compiler start fastest and stay smallest; a broker mostly waits.
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m", "-Xmx512m", "-Xshare:auto")
QUIET_ARCHIVE = ("-Xlog:disable", "-Xlog:all=error:stderr")

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes={message_bytes}
replica.fetch.max.bytes={message_bytes}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A killed broker may register anew only when its session has ended: 9 s by default.
broker.session.timeout.ms=2500
broker.heartbeat.interval.ms=500
# A group of one member need not wait for others; a killed worker is missed soon.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A thread more is one more to wake: three are enough for the requests of some services on a machine's few cores.
num.network.threads=1
num.io.threads=2
log.cleaner.dedupe.buffer.size=2097152
# Nothing is flushed by hand: what the log loses in a crash comes again from the outbox. The ledger is the truth.
"""
LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRef.o.ref = out
logger.start.name = org.apache.kafka.common.utils.AppInfoParser
logger.start.level = INFO
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
appender.o.type = Console
appender.o.name = out
appender.o.layout.type = PatternLayout
appender.o.layout.pattern = %d{ISO8601} %p %m (%c)%n
"""


@dataclass(frozen=True, slots=True)
class Kafka:
    """Where one broker lives: its data, its settings and its two ports."""

    data: Path
    config: Path
    log: Path
    run: Path
    port: int
    controller_port: int
    cluster: str

    @property
    def properties(self) -> Path:
        """The broker's settings file."""
        return self.config / "server.properties"

    def prepare(self) -> None:
        """Write the settings and format the storage, unless that is done."""
        self.config.mkdir(parents=True, exist_ok=True)
        self.properties.write_text(
            PROPERTIES.format(
                host=HOST,
                port=self.port,
                controller=self.controller_port,
                data=self.data,
                message_bytes=MESSAGE_BYTES_MAX,
            ),
            encoding="utf-8",
        )
        (self.config / "log4j2.properties").write_text(LOG4J, encoding="utf-8")
        if not (self.data / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        arguments = ("format", "--ignore-formatted", "-t", self.cluster, "-c")
        done = subprocess.run(
            self.command("kafka.tools.StorageTool", *arguments, str(self.properties)),
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise UsageError(f"Kafka's storage in {self.data} cannot be formatted: {''.join(last)}")

    def command(self, main: str, *arguments: str, jvm: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The command line of one of Kafka's main classes, quickened by the archive if there is one."""
        libs = jars()
        archive = archive_path(libs)
        if archive.exists() and not jvm:
            jvm = (f"-XX:SharedArchiveFile={archive}", *QUIET_ARCHIVE)
        log4j = f"-Dlog4j2.configurationFile={self.config / 'log4j2.properties'}"
        path = ":".join(map(str, libs))
        return (java(), *JVM, *jvm, log4j, "-cp", path, main, *arguments)

    def spec(self, jvm: tuple[str, ...] = ()) -> Spec:
        """The broker's process."""
        return Spec(
            name="kafka",
            argv=self.command("kafka.Kafka", str(self.properties), jvm=jvm),
            log=self.log,
            cwd=self.run,
            stop_seconds=8.0,
            ready=lambda: probes.kafka(self.port),
        )


def version() -> str:
    """The Kafka version that the pom pins."""
    found = re.search(r"<kafka.version>(.+?)<", POM.read_text(encoding="utf-8"))
    return found[1] if found else "unknown"


def java() -> str:
    """The Java to run with: JAVA_HOME's, else the first on PATH."""
    home = os.environ.get("JAVA_HOME", "")
    at_home = Path(home, "bin", "java")
    path = str(at_home) if home and at_home.is_file() else shutil.which("java")
    if path is None:
        raise UsageError(
            f"Kafka needs Java ≥ {JAVA_VERSION_MIN} and there is no `java`: install it"
        )
    return path


def _check_java_version() -> None:
    told = subprocess.run([java(), "-version"], check=False, capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', told)
    if found and int(found[1]) < JAVA_VERSION_MIN:
        raise UsageError(
            f"Kafka needs Java ≥ {JAVA_VERSION_MIN}, but {java()} is {found[1]}:"
            " install a newer one or set JAVA_HOME"
        )


def libs_dir() -> Path:
    """The jars' folder in the checkout, one per version of the pom."""
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    return checkout() / ".treue" / "kafka-libs" / f"{version()}-{digest}"


def jars() -> list[Path]:
    """Kafka's class path; fetched by Maven on the first call on a machine."""
    folder = libs_dir()
    if not folder.is_dir():
        _fetch(folder)
    return sorted(folder.glob("*.jar"))


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise UsageError("Kafka's jars are fetched by Maven and there is no `mvn`: install Maven")
    _check_java_version()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        # Maven writes beside its pom: give it a copy, so that an installed package stays untouched.
        shutil.copy(POM, scratch)
        libs = Path(scratch, "libs")
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run(
            [maven, "-q", "-B", "-ntp", *goal, f"-DoutputDirectory={libs}"],
            cwd=scratch,
            check=False,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS_MAX,
        )
        if done.returncode != 0:
            reason = (done.stdout + done.stderr).strip().splitlines()[:1]
            raise UsageError(
                f"Maven could not fetch Kafka {version()}: {''.join(reason)};"
                " look at the network and at Maven's settings, then try again"
            )
        try:
            libs.rename(folder)
        except OSError:
            # Another start was quicker; its jars are the same.
            if not folder.is_dir():
                raise


def archive_path(libs: list[Path]) -> Path:
    """The class archive for just this Java and these jars: any other would be ignored anyway."""
    binary = Path(java()).resolve()
    identity = f"{binary}:{binary.stat().st_mtime_ns}:{[str(jar) for jar in libs]}:{JVM}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return libs_dir().parent / f"classes-{digest}.jsa"


def make_archive() -> Path:
    """Let a throw-away broker write the class archive: every later start takes a second less."""
    archive = archive_path(jars())
    if archive.exists():
        return archive
    with tempfile.TemporaryDirectory(prefix="treue-kafka-") as scratch:
        folder = Path(scratch)
        draft = archive.with_suffix(f".{os.getpid()}")
        port, controller = free_ports(2)
        broker = Kafka(
            data=folder / "data",
            config=folder / "config",
            log=folder / "log",
            run=folder,
            port=port,
            controller_port=controller,
            cluster="5L6g3nShT-eMCtK--X86sw",
        )
        broker.prepare()
        spec = broker.spec(jvm=(f"-XX:ArchiveClassesAtExit={draft}", *QUIET_ARCHIVE))
        process = spawn(spec, folder)
        try:
            wait_ready(spec, process, READY_SECONDS_MAX)
            process.terminate()
            process.wait(READY_SECONDS_MAX)
        finally:
            process.kill()
            process.wait()
        for stale in archive.parent.glob("classes-*.jsa"):
            stale.unlink()
        draft.rename(archive)
    return archive
