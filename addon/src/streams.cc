// libuv streams of the calling environment's loop, found by their descriptor.

#include <uv.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "napi_error.h"
#include "write_queue.h"

namespace tsunagi {
namespace {

// fd to stream, made by one walk of the loop. Only good until JavaScript or the loop runs again: handles may be freed then.
class StreamIndex {
 public:
  explicit StreamIndex(Napi::Env env) {
    uv_loop_t* loop;
    if (napi_get_uv_event_loop(env, &loop) == napi_ok) uv_walk(loop, Add, &streams_);
  }

  uv_stream_t* Find(int fd) const {
    size_t index = static_cast<size_t>(fd);
    return fd >= 0 && index < streams_.size() ? streams_[index] : nullptr;
  }

 private:
  static void Add(uv_handle_t* handle, void* data) {
    if (handle->type != UV_TCP && handle->type != UV_NAMED_PIPE) return;
    if (uv_is_closing(handle)) return;
    uv_os_fd_t fd;
    if (uv_fileno(handle, &fd) != 0) return;
    auto& streams = *static_cast<std::vector<uv_stream_t*>*>(data);
    if (static_cast<size_t>(fd) >= streams.size()) streams.resize(static_cast<size_t>(fd) + 1);
    streams[static_cast<size_t>(fd)] = reinterpret_cast<uv_stream_t*>(handle);
  }

  std::vector<uv_stream_t*> streams_;
};

Napi::Value ThrowCountDiffers(Napi::Env env, const char* function, int fd) {
  return ThrowErrnoBecause(env, EPROTO, function,
                           "the write queue of fd " + std::to_string(fd) + " does not add up to libuv's write_queue_size");
}

Napi::Value WriteQueueSizes(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  FdList fds(info[0]);
  StreamIndex index(env);
  Napi::Float64Array sizes = Napi::Float64Array::New(env, fds.size());
  double* next = sizes.Data();
  for (int fd : fds) {
    const uv_stream_t* stream = index.Find(fd);
    if (stream != nullptr && !CountAgrees(stream)) return ThrowCountDiffers(env, "writeQueueSizes", fd);
    *next++ = stream == nullptr ? -1 : static_cast<double>(UnsentBytes(stream));
  }
  return sizes;
}

Napi::Value CopyWriteQueues(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  FdList fds(info[0]);
  StreamIndex index(env);
  Napi::Array copies = Napi::Array::New(env, fds.size());
  uint32_t position = 0;
  for (int fd : fds) {
    const uv_stream_t* stream = index.Find(fd);
    if (stream == nullptr) {
      return ThrowErrnoBecause(env, EBADF, "copyWriteQueues", "no stream with fd " + std::to_string(fd) + " on this loop");
    }
    if (!CountAgrees(stream)) return ThrowCountDiffers(env, "copyWriteQueues", fd);
    Napi::HandleScope scope(env);
    // A Buffer because its memory, unlike that of a new Uint8Array, is not zeroed first.
    Napi::Buffer<char> copy = Napi::Buffer<char>::New(env, UnsentBytes(stream));
    if (env.IsExceptionPending()) return {};
    char* end = copy.Data();
    ForEachUnsent(stream, [&](const uv_buf_t& buffer) {
      std::memcpy(end, buffer.base, buffer.len);
      end += buffer.len;
    });
    copies.Set(position++, copy);
  }
  return copies;
}

Napi::Value StopReading(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fds", Kind::kFds}})) return {};
  StreamIndex index(info.Env());
  uint32_t found = 0;
  for (int fd : FdList(info[0])) {
    uv_stream_t* stream = index.Find(fd);
    if (stream == nullptr) continue;
    uv_read_stop(stream);
    found++;
  }
  return Napi::Number::New(info.Env(), found);
}

// libuv unlinks a bound pipe's path when the handle closes (uv__pipe_close). A listener that was handed over must leave the path alone,
// and one that was inherited must take it along: uv_pipe_open knows no path.
// @note uv_pipe_t.pipe_fname of uv/unix.h, freed with uv__free, which is free() as long as nobody calls uv_replace_allocator: Node does not.
void ReplacePipePath(uv_stream_t* stream, char* path) {
  auto* pipe = reinterpret_cast<uv_pipe_t*>(stream);
  free(const_cast<char*>(pipe->pipe_fname));
  pipe->pipe_fname = path;
}

uv_stream_t* FindPipe(Napi::Env env, int fd, const char* function) {
  uv_stream_t* stream = StreamIndex(env).Find(fd);
  if (stream != nullptr && stream->type == UV_NAMED_PIPE) return stream;
  ThrowErrnoBecause(env, EBADF, function, "no pipe with fd " + std::to_string(fd) + " on this loop");
  return nullptr;
}

Napi::Value ClaimPipePath(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Accept(info, {{"fd", Kind::kFd}, {"path", Kind::kPath}})) return {};
  uv_stream_t* stream = FindPipe(env, info[0].As<Napi::Number>(), "claimPipePath");
  if (stream == nullptr) return {};
  char* path = strdup(info[1].As<Napi::String>().Utf8Value().c_str());
  if (path == nullptr) return ThrowErrno(env, ENOMEM, "claimPipePath");
  ReplacePipePath(stream, path);
  return env.Undefined();
}

Napi::Value DisclaimPipePath(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"fd", Kind::kFd}})) return {};
  uv_stream_t* stream = FindPipe(info.Env(), info[0].As<Napi::Number>(), "disclaimPipePath");
  if (stream != nullptr) ReplacePipePath(stream, nullptr);
  return {};
}

}  // namespace

void InitStreams(Napi::Env env, Napi::Object exports) {
  Export<WriteQueueSizes>(env, exports, "writeQueueSizes");
  Export<CopyWriteQueues>(env, exports, "copyWriteQueues");
  Export<StopReading>(env, exports, "stopReading");
  Export<ClaimPipePath>(env, exports, "claimPipePath");
  Export<DisclaimPipePath>(env, exports, "disclaimPipePath");
}

}  // namespace tsunagi
