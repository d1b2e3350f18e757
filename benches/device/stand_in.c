/* A stand-in for the CUDA driver, cuBLAS, cuDNN and cuRAND that computes nothing: every number read back is zero. What a program
   asks of a GPU is counted all the same: launches, memory, and copies out of page-locked memory that it changes too early.
   Built and run by stand_in.py. Functions are those that cudarc calls; it looks each up by name when it first needs it. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t u64;
typedef void *P;
#define OK return 0
#define NOTHING(name) \
  int name() { OK; }
#define MADE(name) \
  int name(P *made) { *made = calloc(1, 64); OK; }

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int recording;
static long launches[2], graphs, replays; /* outside recordings, in them */

/* Memory: addresses that nothing lies at. */
struct block { u64 at, bytes; int recorded; };
static struct block *blocks;
static size_t count, room;
static u64 next_address = 0x7000000000, held[2], high[2], both;

static int take(u64 *at, size_t bytes) {
  pthread_mutex_lock(&lock);
  u64 whole = (bytes + 511) / 512 * 512;
  if (count == room) blocks = realloc(blocks, (room = room ? 2 * room : 4096) * sizeof *blocks);
  blocks[count++] = (struct block){*at = next_address, whole, recording};
  next_address += whole;
  held[recording] += whole;
  if (held[recording] > high[recording]) high[recording] = held[recording];
  if (held[0] + high[1] > both) both = held[0] + high[1];
  pthread_mutex_unlock(&lock);
  OK;
}
static int give_back(u64 at) {
  pthread_mutex_lock(&lock);
  for (size_t i = count; i-- > 0;)
    if (blocks[i].at == at) {
      held[blocks[i].recorded] -= blocks[i].bytes;
      blocks[i] = blocks[--count];
      break;
    }
  pthread_mutex_unlock(&lock);
  OK;
}

/* Copies out of page-locked memory happen as late as they may: when something waits for them. */
struct copy { char *from; size_t bytes; u64 sum, turn; };
static struct copy *copies;
static size_t pending, copy_room;
static struct { char *at; size_t bytes; } *locked;
static size_t locked_count;
static u64 turn = 1;
static long uploads, changed;

static u64 sum_of(const char *p, size_t n) {
  u64 h = 1469598103934665603u;
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 1099511628211u;
  return h;
}
static void finish(u64 until) {
  size_t left = 0;
  for (size_t i = 0; i < pending; i++)
    if (copies[i].turn <= until) changed += sum_of(copies[i].from, copies[i].bytes) != copies[i].sum;
    else copies[left++] = copies[i];
  pending = left;
}
static void told(void) {
  fprintf(stderr, "stand-in: %ld launches; %ld more recorded in %ld graphs, which ran %ld times\n", launches[0], launches[1], graphs, replays);
  fprintf(stderr, "stand-in: %.1f MiB of the device at most, %.1f of them a recording's; libraries' scratch memory not counted\n",
          both / 1048576., high[1] / 1048576.);
  fprintf(stderr, "stand-in: %ld copies out of page-locked memory, %ld of them changed before they were read\n", uploads, changed);
}

/* --- driver --- */
int cuInit(unsigned flags) {
  static int before;
  if (!before++) atexit(told);
  OK;
}
int cuDeviceGetCount(int *n) { *n = 1; OK; }
int cuDeviceGet(int *d, int i) { *d = i; OK; }
int cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "stand-in"); OK; }
int cuDeviceGetUuid_v2(char *u, int d) { memset(u, 0, 16); OK; }
int cuDriverGetVersion(int *v) { *v = 13000; OK; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = (size_t)141 << 30; OK; }
int cuMemGetInfo_v2(size_t *available, size_t *n) { *available = *n = (size_t)141 << 30; OK; }
int cuDeviceGetAttribute(int *v, int which, int d) { /* of an H200 */
  *v = which == 75 ? 9 : which == 76 ? 0 : which == 16 ? 132 : which == 1 ? 1024 : which == 8 ? 49152 : which == 97 ? 232448 : which == 10 ? 32 : 1;
  OK;
}
int cuDevicePrimaryCtxRetain(P *c, int d) { *c = (P)16; OK; }
int cuCtxGetCurrent(P *c) { *c = (P)16; OK; }
int cuCtxGetDevice(int *d) { *d = 0; OK; }
int cuStreamCreate(P *s, unsigned f) { *s = (P)32; OK; }
int cuEventCreate(u64 **e, unsigned f) { *e = calloc(1, sizeof **e); OK; }
int cuEventRecord(u64 *e, P s) { *e = ++turn; OK; }
int cuEventSynchronize(u64 *e) { if (*e) finish(*e); OK; }
int cuStreamSynchronize(P s) { finish(~(u64)0); OK; }
int cuCtxSynchronize(void) { finish(~(u64)0); OK; }
int cuMemAllocAsync(u64 *at, size_t n, P s) { return take(at, n); }
int cuMemAlloc_v2(u64 *at, size_t n) { return take(at, n); }
int cuMemFreeAsync(u64 at, P s) { return give_back(at); }
int cuMemFree_v2(u64 at) { return give_back(at); }
int cuMemHostAlloc(P *p, size_t n, unsigned f) {
  locked = realloc(locked, (locked_count + 1) * sizeof *locked);
  locked[locked_count].at = *p = malloc(n);
  locked[locked_count++].bytes = n;
  OK;
}
int cuMemFreeHost(P p) {
  for (size_t i = 0; i < pending; i++) /* freed under a copy */
    if (copies[i].from == p) changed++, copies[i--] = copies[--pending];
  for (size_t i = 0; i < locked_count; i++)
    if (locked[i].at == p) locked[i--] = locked[--locked_count];
  free(p);
  OK;
}
int cuMemcpyHtoDAsync_v2(u64 to, char *from, size_t n, P s) {
  for (size_t i = 0; i < locked_count; i++) {
    if (from < locked[i].at || from >= locked[i].at + locked[i].bytes) continue;
    if (pending == copy_room) copies = realloc(copies, (copy_room = copy_room ? 2 * copy_room : 64) * sizeof *copies);
    copies[pending++] = (struct copy){from, n, sum_of(from, n), ++turn};
    uploads++;
    break;
  }
  OK;
}
int cuMemcpyDtoHAsync_v2(P to, u64 from, size_t n, P s) { finish(~(u64)0); memset(to, 0, n); OK; }
int cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t n, P s) { launches[recording]++; OK; }
int cuMemsetD8Async(u64 at, unsigned char v, size_t n, P s) { launches[recording]++; OK; }
int cuDeviceGetDefaultMemPool(P *p, int d) { *p = (P)64; OK; }
int cuMemPoolGetAttribute(P p, int which, u64 *v) { *v = which == 8 ? high[0] : which == 7 ? held[0] : 0; OK; }
int cuMemPoolSetAttribute(P p, int which, u64 *v) { if (which == 8) high[0] = held[0]; OK; }
int cuDeviceGetGraphMemAttribute(int d, int which, u64 *v) { *v = high[1]; OK; }
int cuModuleLoadData(P *m, const void *image) { *m = (P)80; OK; }
int cuModuleGetFunction(P *f, P m, const char *name) { *f = strdup(name); OK; }
int cuLaunchKernel() { launches[recording]++; OK; }
int cuFuncGetAttribute(int *v, int which, P f) { *v = 1; OK; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, P f, int b, size_t s) { *n = 1; OK; }
int cuStreamBeginCapture_v2(P s, int mode) { recording = 1; OK; }
int cuStreamEndCapture(P s, P *g) { recording = 0; graphs++; *g = (P)112; OK; }
int cuStreamIsCapturing(P s, int *v) { *v = recording; OK; }
int cuGraphInstantiateWithFlags(P *e, P g, u64 f) { *e = (P)128; OK; }
int cuGraphLaunch(P e, P s) { replays++; OK; }
NOTHING(cuCtxSetCurrent) NOTHING(cuDevicePrimaryCtxRelease_v2) NOTHING(cuEventDestroy_v2) NOTHING(cuStreamWaitEvent)
NOTHING(cuStreamDestroy_v2) NOTHING(cuMemPoolTrimTo) NOTHING(cuModuleUnload) NOTHING(cuFuncSetAttribute)
NOTHING(cuGraphDestroy) NOTHING(cuGraphExecDestroy)

/* --- libraries --- */
MADE(cublasCreate_v2) MADE(cublasLtCreate) MADE(cudnnCreate) MADE(curandCreateGenerator)
int cublasLtMatmulDescCreate(P *made, int a, int b) { *made = calloc(1, 64); OK; }
int cublasLtMatrixLayoutCreate(P *made, int a, u64 r, u64 c, int64_t l) { *made = calloc(1, 64); OK; }
int cublasLtMatmulPreferenceCreate(P *made) { *made = calloc(1, 64); OK; }
int cublasLtMatmulAlgoGetHeuristic(P h, P o, P a, P b, P c, P d, P p, int wanted, char *found, int *n) { memset(found, 0, 80); *n = 1; OK; }
MADE(cudnnCreateTensorDescriptor) MADE(cudnnCreateFilterDescriptor) MADE(cudnnCreateConvolutionDescriptor)
size_t cudnnGetVersion(void) { return 91000; }
static int algorithm(int *n, char *found) { memset(found, 0, 28); *(int *)found = 1; *n = 1; OK; }
#define CONVOLUTION(pass, way)                                                                                                     \
  int cudnnGetConvolution##pass##Algorithm_v7(P h, P a, P b, P c, P d, int wanted, int *n, char *found) { return algorithm(n, found); } \
  int cudnnGetConvolution##pass##WorkspaceSize(P h, P a, P b, P c, P d, int which, size_t *n) { *n = 0; OK; }                       \
  int cudnnConvolution##way() { launches[recording]++; OK; }
CONVOLUTION(Forward, Forward) CONVOLUTION(BackwardData, BackwardData) CONVOLUTION(BackwardFilter, BackwardFilter)
#define PRODUCT(name) \
  int name() { launches[recording]++; OK; }
PRODUCT(cublasLtMatmul) PRODUCT(cublasGemmEx) PRODUCT(cublasGemmStridedBatchedEx) PRODUCT(cublasDgemmStridedBatched)
NOTHING(cublasDestroy_v2) NOTHING(cublasSetStream_v2) NOTHING(cublasLtDestroy) NOTHING(cublasLtMatmulDescDestroy)
NOTHING(cublasLtMatmulDescSetAttribute) NOTHING(cublasLtMatrixLayoutDestroy) NOTHING(cublasLtMatmulPreferenceDestroy)
NOTHING(cublasLtMatmulPreferenceSetAttribute) NOTHING(cudnnDestroy) NOTHING(cudnnSetStream)
NOTHING(cudnnDestroyTensorDescriptor) NOTHING(cudnnDestroyFilterDescriptor) NOTHING(cudnnDestroyConvolutionDescriptor)
NOTHING(cudnnSetTensor4dDescriptor) NOTHING(cudnnSetTensor4dDescriptorEx) NOTHING(cudnnSetFilter4dDescriptor)
NOTHING(cudnnSetConvolution2dDescriptor) NOTHING(cudnnSetConvolutionMathType)
NOTHING(curandDestroyGenerator) NOTHING(curandSetStream) NOTHING(curandSetPseudoRandomGeneratorSeed)
