#!/usr/bin/env bash
# Lays out as much of CUDA 13.0 as building this workspace with `--features cuda,cudnn` needs, on a machine
# without GPU and without CUDA: the compiler from NVIDIA's wheels on PyPI (versions and hashes below), and
# small import libraries in place of what the GPU's machine brings (driver, cuBLAS, cuRAND, NVRTC, cuDNN, NCCL).
#
#   cargo xtask cuda-toolchain          or          toolchain.sh DIR [CARGO_TOML]
#
# Writes DIR/env.sh, the environment of a build, and prints it. The import libraries hold every function that
# the workspace's cudarc names. CUDA_LINK=lazy (default): they open the real library at the first call, so that
# one program runs with and without a GPU, and a missing driver is an error of the call. CUDA_LINK=shared: stub
# .so files instead. CUDA_QUANTIZED=1: with Candle's kernels for quantised models, which this workspace does
# not use and which take most of the build's time; without them a call of one ends the program with a message.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 64; }
mkdir -p "$1"; dir=$(cd "$1" && pwd); manifest=${2:-Cargo.toml}; link=${CUDA_LINK:-lazy}
quantized=${CUDA_QUANTIZED:-0}
case $link in lazy|shared) ;; *) echo "CUDA_LINK is lazy or shared, not $link" >&2; exit 64;; esac
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "x86-64 Linux only" >&2; exit 1; }

# 1. The compiler. 13.0, not newer: the PTX that a newer nvcc writes is refused by a 580 driver.
if [ ! -e "$dir/.unpacked-13.0.88" ]; then
  tmp=$(mktemp -d "$dir/.wheels.XXXXXX"); trap 'rm -rf "$tmp"' EXIT
  cat > "$tmp/pins" <<'PINS'
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
PINS
  python3 -m pip --disable-pip-version-check download -q --no-deps --only-binary=:all: \
    --require-hashes -r "$tmp/pins" -d "$tmp" >&2
  for w in "$tmp"/*.whl; do python3 -m zipfile -e "$w" "$tmp/x" >&2; done
  rm -rf "$dir"/{bin,include,lib,lib64,nvvm}
  mv "$tmp"/x/nvidia/cu13/{bin,include,lib,nvvm} "$dir/"
  chmod +x "$dir"/bin/* "$dir"/nvvm/bin/*
  ln -sfn lib "$dir/lib64"                         # nvcc and cudaforge look in lib64
  ln -sfn libcudart_static.a "$dir/lib/libcudart.a" # with no libcudart.so here, -lcudart is static
  rm -f "$dir"/lib/libcudart.so*                   # so the program needs no libcudart.so.13
  rm -rf "$tmp"; trap - EXIT; touch "$dir/.unpacked-13.0.88"
fi

# 2. The import libraries, for the functions that cudarc names.
cudarc=$(cargo metadata --format-version 1 --all-features --filter-platform x86_64-unknown-linux-gnu --manifest-path "$manifest" | python3 -c '
import json, os, sys
p = [p for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"]
sys.exit("no cudarc among the dependencies") if not p else print(os.path.dirname(p[0]["manifest_path"]))')
rm -rf "$dir/lib/stubs"; mkdir -p "$dir/lib/stubs"
CUDARC=$cudarc LINK=$link OUT=$dir/lib/stubs python3 - <<'PY'
import os, pathlib, re, subprocess, tempfile
# cudarc's folder: (library, soname, prefix, status that says "not there")
LIBS = {"driver": ("cuda", "libcuda.so.1", "cu", 34), "cublas": ("cublas", "libcublas.so.13", "cublas", 1),
        "cublaslt": ("cublasLt", "libcublasLt.so.13", "cublasLt", 1),
        "curand": ("curand", "libcurand.so.10", "curand", 203), "nvrtc": ("nvrtc", "libnvrtc.so.13", "nvrtc", 11),
        "cudnn": ("cudnn", "libcudnn.so.9", "cudnn", 1001), "nccl": ("nccl", "libnccl.so.2", "nccl", 3)}
RESOLVER = r'''
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
extern const char *const NAMES[]; extern void *TABLE[];
static int missing(void) { return STATUS; }
static const char *missing_text(void) { return SONAME " is not on the library path"; }
__attribute__((visibility("hidden"))) void *RESOLVE(long i) {
  static void *lib; static int said;
  void *at = 0, *h = __atomic_load_n(&lib, __ATOMIC_ACQUIRE);
  if (!h && (h = dlopen(SONAME, RTLD_LAZY | RTLD_LOCAL))) __atomic_store_n(&lib, h, __ATOMIC_RELEASE);
  if (!h && !__atomic_exchange_n(&said, 1, __ATOMIC_RELAXED)) fprintf(stderr, "%s\n", dlerror());
  if (h) at = dlsym(h, NAMES[i]);
  if (!at) at = DRIVER || !(strstr(NAMES[i], "String") || strstr(NAMES[i], "LastError")) ? (void *)missing : (void *)missing_text;
  __atomic_store_n(&TABLE[i], at, __ATOMIC_RELEASE);
  return at;
}
'''
def run(*a): subprocess.run(a, check=True)
for folder, (name, soname, prefix, status) in LIBS.items():
    src = pathlib.Path(os.environ["CUDARC"], "src", folder, "sys")
    if not src.is_dir(): continue
    text = "".join(f.read_text() for f in src.rglob("*.rs"))
    syms = sorted(set(re.findall(r"\bfn (p?%s[A-Z]\w*)\(" % prefix, text)))
    out = os.environ["OUT"]
    with tempfile.TemporaryDirectory() as t:
        t = pathlib.Path(t)
        if os.environ["LINK"] == "shared":
            (t / "s.c").write_text("".join('%s%s(void) { return %s; }\n' % (
                *((("const char *", s, '"stub"') if folder != "driver" and re.search("String|LastError", s) else ("int ", s, status))),)
                for s in syms))
            run("cc", "-shared", "-fPIC", "-O1", "-w", f"-Wl,-soname,{soname}", "-o", f"{out}/lib{name}.so", str(t / "s.c"))
            os.symlink(f"lib{name}.so", f"{out}/{soname}")  # to start the program on a machine without the real one
            continue
        u = "lazy_" + name
        defs = dict(NAMES=u + "_names", TABLE=u + "_table", RESOLVE=u + "_resolve", STATUS=status,
                    SONAME='"%s"' % soname, DRIVER=int(folder == "driver"))
        (t / "r.c").write_text("".join(f"#define {k} {v}\n" for k, v in defs.items()) + RESOLVER)
        a = [".text", f".type {u}_common,@function", f"{u}_common:"]
        regs = "rax rdi rsi rdx rcx r8 r9".split()
        a += [f"push %{r}" for r in regs] + ["sub $136,%rsp"]
        a += [f"movups %xmm{i},{16 * i}(%rsp)" for i in range(8)]
        a += [f"mov {136 + 8 * len(regs)}(%rsp),%rdi", f"call {u}_resolve", "mov %rax,%r11"]
        a += [f"movups {16 * i}(%rsp),%xmm{i}" for i in range(8)]
        a += ["add $136,%rsp"] + [f"pop %{r}" for r in reversed(regs)] + ["add $8,%rsp", "jmp *%r11"]
        for i, s in enumerate(syms):
            a += [f".globl {s}", f".type {s},@function", f"{s}: endbr64", f"jmp *{u}_table+{8 * i}(%rip)",
                  f".L{i}: push ${i}", f"jmp {u}_common", f".size {s},.-{s}"]
        a += [".data", ".balign 8", f".globl {u}_table", f".hidden {u}_table", f"{u}_table:"]
        a += [f".quad .L{i}" for i in range(len(syms))]
        a += ['.section .data.rel.ro,"aw"', ".balign 8", f".globl {u}_names", f".hidden {u}_names", f"{u}_names:"]
        a += [f".quad .S{i}" for i in range(len(syms))] + [".section .rodata"]
        a += [f'.S{i}: .asciz "{s}"' for i, s in enumerate(syms)] + ['.section .note.GNU-stack,"",@progbits', ""]
        (t / "t.s").write_text("\n".join(a))
        run("cc", "-c", "-fPIC", "-O2", "-o", str(t / "r.o"), str(t / "r.c"))
        run("cc", "-c", "-o", str(t / "t.o"), str(t / "t.s"))
        run("ar", "rcs", f"{out}/lib{name}.a", str(t / "r.o"), str(t / "t.o"))
PY

# 3. The compiler's front: what it wrote is kept under DIR/cache, by its version, arguments and the
#    sources of the crate that is being built (the build script's working directory).
mkdir -p "$dir/wrap" "$dir/wrap-noq" "$dir/cache"
cat > "$dir/wrap/nvcc" <<'WRAP'
#!/usr/bin/env bash
set -euo pipefail
front=$(cd "$(dirname "$0")" && pwd); dir=${front%/*}; real=$dir/bin/nvcc
src=; out=; mode=; key=()
args=("$@"); for ((i = 0; i < $#; i++)); do
  a=${args[i]}
  case $a in
    -o) out=${args[i+1]}; i=$((i+1));;
    --output-directory) out=${args[i+1]}; i=$((i+1));;
    -c|--ptx|--fatbin) mode=$a; key+=("$a");;
    *.cu) src=$a; key+=("$a");;
    -I*/checkouts/*) key+=("${a##*/checkouts/}");;
    *) key+=("$a");;
  esac
done
[ -n "$mode" ] && [ -n "$src" ] && [ -n "$out" ] || exec "$real" "$@"
[ "$mode" = -c ] || out=$out/$(basename "$src" .cu).${mode#--}
if [ "${front##*/}" = wrap-noq ] && [ -e src/ffi.rs ]; then case $src in
  */moe/*|*/mmq_gguf/*|*/mmvq_gguf.cu)
    { echo 'extern int dprintf(int, const char *, ...); extern void abort(void);'
      sed -n 's/^ *pub fn \([a-z0-9_A-Z]*\)(.*/__attribute__((weak)) void \1(void) { dprintf(2, "\1: left out of this build (CUDA_QUANTIZED=0)\\n"); abort(); }/p' src/ffi.rs
    } | cc -x c -c -fPIC -o "$out" -; exit;;
  */quantized.cu) printf '.version 9.0\n.target sm_%s\n.address_size 64\n' "${CUDA_COMPUTE_CAP%a}" > "$out"; exit;;
esac; fi
hash=$({ printf '%s\n' 13.0.88 "${NVCC_PREPEND_FLAGS:-}" "${NVCC_APPEND_FLAGS:-}" "${key[@]}"
  find . \( -name '*.cu' -o -name '*.cuh' -o -name '*.h' \) -type f | LC_ALL=C sort | xargs sha256sum; } | sha256sum | cut -c1-32)
kept=$dir/cache/$hash-$(basename "$src").${mode##*-}
if [ ! -e "$kept" ]; then
  "$real" "$@"
  cp "$out" "$kept.$$" && mv "$kept.$$" "$kept"
else
  cp "$kept" "$out"
fi
WRAP
chmod +x "$dir/wrap/nvcc"; cp "$dir/wrap/nvcc" "$dir/wrap-noq/nvcc"
wrap=wrap; [ "$quantized" != 0 ] || wrap=wrap-noq

# 4. The environment.
tee "$dir/env.sh" <<ENV
export CUDA_HOME='$dir'
export NVCC='$dir/$wrap/nvcc'
export PATH='$dir/bin':"\$PATH"
export CUDARC_CUDA_VERSION=13000
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-80}
export CUDAFORGE_THREADS=\${CUDAFORGE_THREADS:-$(nproc)}
ENV
