#!/usr/bin/env python3
"""What a GPU is asked to show, in one call: the self-test, inference and training beside PyTorch, a short training.

Needs target/device-bench/dmmi-cli.xz (`cargo xtask device-bench --pack`), a driver for CUDA 13, and a Python with torch,
whose wheels also bring cuBLAS and cuDNN. The self-test, a run killed and resumed, and the quickstart go side by side while
PyTorch compiles; then each program is timed, beside nothing but what is still being compiled. Every step has its time limit;
a step that fails is reported and the rest goes on. All at once they hold up to 110 GiB of a GPU's memory; on a smaller one,
choose with --only and --work.

    python3 benches/device/run.py [--out DIR] [--minutes 9] [--only selftest,resume,quickstart,speed]
"""

import argparse
import io
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKED = ROOT / "target/device-bench/dmmi-cli.xz"
PEER = ROOT / "benches/peer/dmmi_peer.py"
# What torch.compile made in an earlier call on such a card, in parts of at most 15 MiB: found here, it need not be compiled again.
COMPILED = "inductor.tar.xz"
PART = 15 << 20
# (mode, batch, arithmetic of ours and of the peer)
WORK = [("infer", b, d) for b in (1, 8, 32) for d in ("tf32", "bf16")] + [("train", b, d) for b in (8, 32) for d in ("tf32", "bf16")]

NAMES = ["{}-{}-{}".format(*w) for w in WORK]
INDUCTOR = pathlib.Path("/tmp/dmmi-inductor")


def environment():
    """The run-time libraries of CUDA as PyTorch's wheels bring them."""
    env = dict(os.environ)
    try:
        import nvidia
        base = list(nvidia.__path__)[0]
        found = [f"{base}/cu13/lib", f"{base}/cudnn/lib", f"{base}/nccl/lib"]
    except ImportError:
        found = []
    found += ["/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", env.get("LD_LIBRARY_PATH", "")]
    env["LD_LIBRARY_PATH"] = ":".join(f for f in found if f)
    env.setdefault("CUDA_CACHE_PATH", "/tmp/dmmi-cuda-cache")
    env.setdefault("CUDA_CACHE_MAXSIZE", str(2 << 30))
    env["TORCHINDUCTOR_CACHE_DIR"], env["TRITON_CACHE_DIR"] = f"{INDUCTOR}/inductor", f"{INDUCTOR}/triton"
    return env


class Session:
    def __init__(self, out, seconds, first):
        self.out, self.env, self.end, self.first = out, environment(), time.monotonic() + seconds, first
        # What is handed back is a few small files in `out`; the rest lies here.
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="dmmi-device-bench-"))
        self.program = self.work / "dmmi-cli"
        with lzma.open(PACKED) as packed, open(self.program, "wb") as plain:
            shutil.copyfileobj(packed, plain)
        self.program.chmod(0o755)
        parts = sorted(PACKED.parent.glob(f"{COMPILED}.*"))
        if parts:
            with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as packed:
                packed.extractall(INDUCTOR, filter="data")

    def keep_compiled(self):
        """Leaves what torch.compile made in the output folder, to be brought along beside the packed program."""
        if not INDUCTOR.exists():
            return
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w:xz", preset=1) as packed:
            packed.add(INDUCTOR, ".")
        data = whole.getvalue()
        for i in range(0, len(data), PART):
            (self.out / f"{COMPILED}.{i // PART}").write_bytes(data[i:i + PART])

    def run(self, title, command, limit):
        """Runs a command within its limit and what is left; its output goes to a file and is returned."""
        left = self.end - time.monotonic()
        if left < 5:
            print(f"-- {title}: left out, the time is over", flush=True)
            return None
        start = time.monotonic()
        try:
            done = subprocess.run([str(c) for c in command], cwd=ROOT, env=self.env, timeout=min(limit, left), text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            text, how = done.stdout, f"exit status {done.returncode}"
        except subprocess.TimeoutExpired as over:
            text, how = (over.stdout or b"").decode(errors="replace") if isinstance(over.stdout, bytes) else over.stdout or "", "time limit"
        with open(self.out / "log.txt", "a") as log:
            log.write(f"==== {title}: {' '.join(str(c) for c in command)}\n{text}\n")
        print(f"-- {title}: {how}, {time.monotonic() - start:.0f} s", flush=True)
        return text

    def measure(self, title, command, limit):
        """The JSON that a bench program writes."""
        return self.json(title, self.run(title, [*command, "--json", self.work / f"{title}.json"], limit))

    def json(self, title, text):
        path = self.work / f"{title}.json"
        if not path.exists():
            print(f"   {title}: " + " ".join((text or "").split())[-300:])
            return None
        result = json.loads(path.read_text())
        with open(self.out / "results.jsonl", "a") as file:
            file.write(json.dumps({"title": title} | result) + "\n")
        return result


class Peer:
    """A PyTorch program that gets ready (imports, compiles) beside others and is timed once its gate opens, alone."""

    def __init__(self, s, title, command):
        self.s, self.title, self.gate = s, title, s.work / f"{title}.gate"
        command = [str(c) for c in [*command, "--json", s.work / f"{title}.json", "--gate", self.gate]]
        self.log = open(s.work / f"{title}.txt", "w+")
        self.child = subprocess.Popen(command, cwd=ROOT, env=s.env, stdout=self.log, stderr=subprocess.STDOUT)

    def ready_file(self):
        return pathlib.Path(f"{self.gate}.ready")

    def ready(self):
        return self.ready_file().exists() or self.child.poll() is not None

    def measure(self, limit):
        self.gate.touch()
        try:
            self.child.wait(max(1, min(limit, self.s.end - time.monotonic())))
        except subprocess.TimeoutExpired:
            print(f"-- {self.title}: time limit")
            self.stop()
        self.log.seek(0)
        return self.s.json(self.title, self.log.read())

    def stop(self):
        self.child.kill()
        self.child.wait()


def selftest(s):
    text = s.run("selftest", [s.program, "selftest", "--device", "cuda"], 150) or ""
    lines = [l for l in text.splitlines() if not l.startswith((" ", "MISS")) and " MISS" not in l]
    print("\n".join("   " + l for l in lines[-14:]))
    print(f"   misses: {sum('MISS' in l for l in text.splitlines())}")


def common(mode, batch, dtype):
    iters, warmup = (10, 4) if batch < 32 else (6, 3)
    return ["--mode", mode, "--device", "cuda", "--batch", batch, "--dtype", dtype, "--iters", iters, "--warmup", warmup, "--no-parts"]


def start_peers(s, eager, compiled):
    """PyTorch's programs, all getting ready at once: (mode, batch, arithmetic, how) to Peer."""
    peers = {}
    for chosen, how, extra in ((compiled, "compiled", ["--compile", "--channels-last"]), (eager, "eager", [])):
        for work in chosen:
            title = "{}-{}-{}-torch-{}".format(*work, how)
            peers[*work, how] = Peer(s, title, [sys.executable, PEER, *common(*work), *extra])
    return peers


def compare(s, chosen, peers):
    gib = lambda d: f"{d['memory']['device_peak_mib'] / 1024:.2f}" if d else "-"
    ms = lambda d: f"{d['total_ms']:.2f}" if d else "-"
    ratio = lambda a, b: f"{a['total_ms'] / b['total_ms']:.2f}" if b else "-"
    measured = lambda work, how, limit: peers[*work, how].measure(limit) if (*work, how) in peers else None
    rows = []
    for work in chosen:
        ours = s.measure("{}-{}-{}-dmmi".format(*work), [s.program, "bench", *common(*work)], 60)
        rows.append((work, ours, measured(work, "eager", 60)))
        if ours:
            print(f"   {work}: {ms(ours)} ms, {gib(ours)} GiB; eager {ms(rows[-1][2])} ms, {gib(rows[-1][2])} GiB", flush=True)
    # Compiling takes longest, so what is compiled comes last.
    print("\n| Swin-B + BERT-base, 480 x 480 | dmmi ms | images/s | peak GiB | TFLOP/s | % of matmul | eager ms | peak GiB | ratio "
          "| compiled ms | peak GiB | ratio |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    for work, ours, eager in rows:
        compiled = measured(work, "compiled", 600)
        if ours is None:
            continue
        rate = sum(ours["flops"].values()) / ours["total_ms"] / 1e9
        print(f"| {work[0]} {work[1]}, {work[2]} | {ms(ours)} | {ours['images_per_s']:.1f} | {gib(ours)} | {rate:.0f} | {100 * rate * 1e3 / ours['matmul_gflops']:.0f} "
              f"| {ms(eager)} | {gib(eager)} | {ratio(ours, eager)} | {ms(compiled)} | {gib(compiled)} | {ratio(ours, compiled)} |", flush=True)


def quickstart(s):
    run = s.work / "quickstart"
    text = s.run("quickstart", [s.program, "quickstart", "--device", "cuda", "--quiet", "--out", run], s.first) or ""
    print("\n".join("   " + l for l in text.splitlines()[-25:]))
    for name in ("test.json", "metrics.jsonl", "report.html"):
        if (run / name).exists():
            shutil.copy(run / name, s.out / f"quickstart-{name}")


RESUME = """
seed = 11
[data]
image_size = [64, 64]
max_words = 12
vocab = "synthetic"
train = {{ dir = "{data}", split = "train" }}
val = {{ dir = "{data}", split = "val" }}
[model]
preset = "quickstart"
decoder = {{ num_heads = 4, feed_forward = 128, dropout = 0.1 }}
[optimizer]
lr = 1e-3
text_layers_trained = "all"
[schedule]
epochs = 6
batch_size = 4
[checkpoint]
every_steps = 5
keep_last = 3
"""


def killed(s):
    """Killed with SIGKILL five times and resumed: the losses of an undisturbed run, and of a second undisturbed one."""
    root = s.work / "resume"
    root.mkdir(exist_ok=True)
    s.run("data", [s.program, "quickstart", "--mini", "--device", "cuda", "--out", root / "mini"], 60)
    (root / "run.toml").write_text(RESUME.format(data=root / "mini/data"))

    def command(name, *more):
        return [str(c) for c in (s.program, "train", "--config", root / "run.toml", "--device", "cuda", "--quiet", "--out", root / name, *more)]

    def losses(name):
        lines = (root / name / "steps.csv").read_text().splitlines()[1:]
        return [[float(v) for v in line.split(",")[:9]] for line in lines]

    for name in ("whole", "again"):
        s.run(name, command(name), 60)
    kills, log = 0, root / "broken/steps.csv"
    for i in range(5):
        child = subprocess.Popen(command("broken", *(["--resume"] if i else [])), cwd=ROOT, env=s.env, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        while child.poll() is None and (log.read_text().count("\n") if log.exists() else 0) < 8 * (i + 1):
            time.sleep(0.002)
        kills += child.poll() is None
        child.kill()
        child.wait()
    s.run("resumed", command("broken", "--resume"), 60)
    whole, again, broken = losses("whole"), losses("again"), losses("broken")
    apart = lambda a, b: max((abs(x - y) / max(abs(x), 1e-3) for p, q in zip(a, b) for x, y in zip(p, q)), default=0.0)
    alike = lambda a, b: next((i for i, (p, q) in enumerate(zip(a, b)) if p != q), len(a))
    print(f"   {len(whole)} steps, {kills} kills: {len(broken)} steps in the log, the first {alike(whole, broken)} equal; largest relative "
          f"difference of a loss, learning rate or norm {apart(whole, broken):.1e}; of a second undisturbed run {apart(whole, again):.1e}, "
          f"the first {alike(whole, again)} equal")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path(os.environ.get("OUT", ROOT / "target/device-bench/out")))
    p.add_argument("--minutes", type=float, default=9.0, help="all together")
    p.add_argument("--first-minutes", type=float, default=5.0, help="for the checks and the quickstart; then is timed")
    p.add_argument("--only", default="selftest,resume,quickstart,speed", help="steps, separated by commas")
    works = lambda text: [WORK[NAMES.index(w)] for w in text.split(",") if w]
    p.add_argument("--work", type=works, default=WORK, help="what is timed, such as train-8-bf16,infer-1-tf32")
    p.add_argument("--eager", type=works, default=WORK, help="of it, what is compared with PyTorch")
    p.add_argument("--compiled", type=works, default=[w for w in WORK if w[2] == "bf16"], help="of it, what with PyTorch compiled")
    args = p.parse_args()
    if not PACKED.exists():
        sys.exit(f"error: {PACKED} is missing; make it with `cargo xtask device-bench --pack` and bring it here")
    args.out.mkdir(parents=True, exist_ok=True)
    s = Session(args.out, args.minutes * 60, args.first_minutes * 60)
    s.run("GPU", ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], 20)
    steps = args.only.split(",")
    begun = time.monotonic()
    work = [w for w in WORK if w in args.work] if "speed" in steps else []
    peers = start_peers(s, [w for w in work if w in args.eager], [w for w in work if w in args.compiled])
    # Side by side: none of these is timed.
    untimed = [threading.Thread(target=f, args=(s,)) for name, f in (("selftest", selftest), ("resume", killed), ("quickstart", quickstart)) if name in steps]
    for thread in untimed:
        thread.start()
    for thread in untimed:
        thread.join()
    while not all(peer.ready() for peer in peers.values()) and time.monotonic() - begun < s.first:
        time.sleep(0.1)
    print(f"-- timing from here, after {time.monotonic() - begun:.0f} s")
    if work:
        compare(s, work, peers)
    for peer in peers.values():
        peer.stop()
    s.keep_compiled()


if __name__ == "__main__":
    main()
