# The run-time libraries of CUDA 13 as PyTorch's wheels bring them. Source it: . benches/device/env.sh
NV=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null) || NV=
if [ -n "$NV" ]; then
  export LD_LIBRARY_PATH="$NV/cu13/lib:$NV/cudnn/lib:$NV/nccl/lib:/usr/local/nvidia/lib64:/usr/local/nvidia/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
export CUDA_CACHE_PATH="${CUDA_CACHE_PATH:-/tmp/dmmi-cuda-cache}" CUDA_CACHE_MAXSIZE="${CUDA_CACHE_MAXSIZE:-2147483648}"
