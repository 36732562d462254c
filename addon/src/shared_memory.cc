// Memory that outlives the process that writes it: whoever has the descriptor reads it afterwards.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "addon.h"
#include "arguments.h"
#include "napi_error.h"
#include "unique_fd.h"

namespace tsunagi {
namespace {

Napi::Value SharedMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"bytes", Kind::kCount}})) return {};
  size_t bytes = info[0].As<Napi::Number>().Uint32Value();
  UniqueFd fd(memfd_create("tsunagi-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return ThrowErrno(env, errno, "memfd_create");
  // Pages that nobody writes to take no memory.
  if (ftruncate(fd.Get(), static_cast<off_t>(bytes)) == -1) return ThrowErrno(env, errno, "ftruncate");
  if (fcntl(fd.Get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) == -1) return ThrowErrno(env, errno, "fcntl");
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.Get(), 0);
  if (start == MAP_FAILED) return ThrowErrno(env, errno, "mmap");
  Napi::Object result = Napi::Object::New(env);
  result.Set("memory", Napi::ArrayBuffer::New(env, start, bytes, [bytes](Napi::Env, void* memory) { munmap(memory, bytes); }));
  if (env.IsExceptionPending()) return {};
  result.Set("fd", Napi::Number::New(env, fd.Release()));
  return result;
}

}  // namespace

void InitSharedMemory(Napi::Env env, Napi::Object exports) { Export<SharedMemory>(env, exports, "sharedMemory"); }

}  // namespace tsunagi
