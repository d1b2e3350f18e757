#!/usr/bin/env python3
"""What a GPU is asked to show, in one call: the self-test, inference and training beside PyTorch, a short training.

Needs target/device-bench/dmmi-cli.xz (`cargo xtask device-bench --pack`), a driver for CUDA 13, and a Python with torch,
whose wheels also bring cuBLAS and cuDNN. Every step has its time limit; a step that fails is reported and the rest goes on.

    python3 benches/device/run.py [--out DIR] [--minutes 9] [--only selftest,infer,train,quickstart,resume]
"""

import argparse
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKED = ROOT / "target/device-bench/dmmi-cli.xz"
PEER = ROOT / "benches/peer/dmmi_peer.py"
# What torch.compile made in an earlier call on such a card: found here, it need not be compiled again.
COMPILED = ROOT / "target/device-bench/inductor.tar.xz"
# (mode, batch, arithmetic of ours and of the peer)
WORK = [("infer", b, d) for b in (1, 8, 32) for d in ("tf32", "bf16")] + [("train", b, d) for b in (8, 32) for d in ("tf32", "bf16")]

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
    def __init__(self, out, seconds):
        self.out, self.env, self.end = out, environment(), time.monotonic() + seconds
        self.program = pathlib.Path("/tmp/dmmi-device-bench-cli")
        with lzma.open(PACKED) as packed, open(self.program, "wb") as plain:
            shutil.copyfileobj(packed, plain)
        self.program.chmod(0o755)
        if COMPILED.exists():
            with tarfile.open(COMPILED) as packed:
                packed.extractall(INDUCTOR, filter="data")

    def keep_compiled(self):
        """Leaves what torch.compile made in the output folder, to be brought along as `COMPILED`."""
        if INDUCTOR.exists():
            with tarfile.open(self.out / COMPILED.name, "w:xz", preset=1) as packed:
                packed.add(INDUCTOR, ".")

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
        path = self.out / f"{title}.json"
        text = self.run(title, [*command, "--json", path], limit)
        if not path.exists():
            print("   " + " ".join((text or "").split())[-300:])
            return None
        return json.loads(path.read_text())


def selftest(s):
    text = s.run("selftest", [s.program, "selftest", "--device", "cuda"], 150) or ""
    lines = [l for l in text.splitlines() if not l.startswith((" ", "MISS")) and " MISS" not in l]
    print("\n".join("   " + l for l in lines[-14:]))
    print(f"   misses: {sum('MISS' in l for l in text.splitlines())}")


def compare(s, mode, compiled, chosen):
    print(f"\n| {mode}, Swin-B + BERT-base, 480 x 480 | dmmi ms | images/s | peak GiB | TFLOP/s | % of matmul | torch eager ms | peak GiB | torch compiled ms | ratio to best |\n|---|---|---|---|---|---|---|---|---|---|")
    for m, batch, dtype in WORK:
        if m != mode or (chosen and f"{m}-{batch}-{dtype}" not in chosen):
            continue
        iters, warmup = (10, 4) if batch < 32 else (5, 2)
        common = ["--mode", mode, "--device", "cuda", "--batch", batch, "--dtype", dtype, "--iters", iters, "--warmup", warmup, "--no-parts"]
        ours = s.measure(f"{mode}-{batch}-{dtype}-dmmi", [s.program, "bench", *common], 60)
        peers = {}
        for name, extra in (("eager", []), ("compiled", ["--compile", "--channels-last"])):
            # Compiling takes one to three minutes, with the machine to itself.
            if name == "eager" or f"{m}-{batch}-{dtype}" in compiled:
                limit = 60 if name == "eager" else 240
                peers[name] = s.measure(f"{mode}-{batch}-{dtype}-torch-{name}", [sys.executable, PEER, *common, *extra], limit)
                if extra:
                    s.keep_compiled()
        if ours is None:
            continue
        flops = sum(ours["flops"].values())
        rate = flops / ours["total_ms"] / 1e9
        gib = lambda d: f"{d['memory']['device_peak_mib'] / 1024:.1f}" if d else "-"
        ms = lambda d: f"{d['total_ms']:.1f}" if d else "-"
        known = [d["total_ms"] for d in peers.values() if d]
        ratio = f"{ours['total_ms'] / min(known):.2f}" if known else "-"
        print(f"| batch {batch}, {dtype} | {ms(ours)} | {ours['images_per_s']:.1f} | {gib(ours)} | {rate:.0f} | {100 * rate * 1e3 / ours['matmul_gflops']:.0f} "
              f"| {ms(peers.get('eager'))} | {gib(peers.get('eager'))} | {ms(peers.get('compiled'))} | {ratio} |", flush=True)


def quickstart(s):
    out = s.out / "quickstart"
    text = s.run("quickstart", [s.program, "quickstart", "--device", "cuda", "--out", out], 240) or ""
    print("\n".join("   " + l for l in text.splitlines()[-25:]))


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
    root = s.out / "resume"
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
    p.add_argument("--only", default="selftest,infer,train,quickstart,resume", help="steps, separated by commas")
    p.add_argument("--work", default="", help="of inference and training only these, such as train-8-bf16,infer-1-tf32")
    p.add_argument("--compiled", default="train-8-bf16", help="work that PyTorch does compiled, too, which takes most of the time; empty: none")
    args = p.parse_args()
    if not PACKED.exists():
        sys.exit(f"error: {PACKED} is missing; make it with `cargo xtask device-bench --pack` and bring it here")
    args.out.mkdir(parents=True, exist_ok=True)
    s = Session(args.out, args.minutes * 60)
    s.run("GPU", ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], 20)
    steps = args.only.split(",")
    if "selftest" in steps:
        selftest(s)
    for mode in ("infer", "train"):
        if mode in steps:
            names = lambda text: [w for w in text.split(",") if w]
            compare(s, mode, names(args.compiled), names(args.work))
    if "quickstart" in steps:
        quickstart(s)
    if "resume" in steps:
        killed(s)


if __name__ == "__main__":
    main()
