// Proves that the struct fields this addon reads are where its headers say, in the libuv that this process runs.

#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "addon.h"
#include "unique_fd.h"
#include "write_queue.h"

namespace tsunagi {
namespace {

// Enough that a socket with the smallest send buffer takes only a part; more than the four buffers that a uv_write_t has room for.
constexpr size_t kRequests = 3;
constexpr size_t kBuffersPerRequest = 6;
constexpr size_t kBufferBytes = 4096;
constexpr size_t kTotalBytes = kRequests * kBuffersPerRequest * kBufferBytes;

// A pipe handle on a loop of its own, with more queued than its socket takes.
class Rig {
 public:
  Rig() : bytes_(kTotalBytes) {
    for (size_t index = 0; index < bytes_.size(); index++) bytes_[index] = static_cast<char>(index * 31 + index / 251);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  // Runs the checks and tears down whatever came to be. Empty when all is well.
  std::string Run() {
    if (uv_handle_size(UV_NAMED_PIPE) != sizeof(uv_pipe_t) || uv_handle_size(UV_TCP) != sizeof(uv_tcp_t) ||
        uv_req_size(UV_WRITE) != sizeof(uv_write_t)) {
      return "libuv's handles or requests have another size";
    }
    if (int error = uv_loop_init(&loop_)) return Failed("uv_loop_init", error);
    std::string difference = Check();
    if (pipe_ready_) uv_close(reinterpret_cast<uv_handle_t*>(&pipe_), nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);
    int error = uv_loop_close(&loop_);
    if (difference.empty() && error != 0) difference = Failed("uv_loop_close", error);
    if (difference.empty() && callbacks_ != kRequests) difference = "not every queued write called back on close";
    return difference;
  }

 private:
  static std::string Failed(const char* call, int error) { return std::string(call) + " failed: " + uv_strerror(error); }

  std::string Check() {
    std::string difference = OpenPipe();
    if (difference.empty()) difference = QueueWrites();
    if (difference.empty()) difference = CompareTail("right after uv_write");
    if (difference.empty()) difference = LetSomeThrough();
    if (difference.empty()) difference = CompareTail("after some of it was read");
    if (difference.empty()) difference = CheckReadStop();
    return difference;
  }

  std::string OpenPipe() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == -1) return Failed("socketpair", -errno);
    UniqueFd own(fds[0]);
    peer_ = UniqueFd(fds[1]);
    int smallest = 1;
    setsockopt(own.Get(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest);
    if (int error = uv_pipe_init(&loop_, &pipe_, 0)) return Failed("uv_pipe_init", error);
    pipe_ready_ = true;
    pipe_.data = this;
    if (int error = uv_pipe_open(&pipe_, own.Get())) return Failed("uv_pipe_open", error);
    int fd = own.Release();
    uv_os_fd_t reported;
    if (uv_fileno(reinterpret_cast<uv_handle_t*>(&pipe_), &reported) != 0 || reported != fd) return "uv_fileno differs";
    if (UnsentBytes(Stream()) != 0 || !CountAgrees(Stream())) return "the write queue of a new stream is not empty";
    return {};
  }

  std::string QueueWrites() {
    char* next = bytes_.data();
    for (uv_write_t& request : requests_) {
      uv_buf_t buffers[kBuffersPerRequest];
      for (uv_buf_t& buffer : buffers) {
        buffer = uv_buf_init(next, kBufferBytes);
        next += kBufferBytes;
      }
      request.data = this;
      int error = uv_write(&request, Stream(), buffers, kBuffersPerRequest, OnWritten);
      if (error != 0) return Failed("uv_write", error);
    }
    return {};
  }

  // Reads all that is in the socket and lets libuv write once more.
  std::string LetSomeThrough() {
    DrainPeer();
    uv_run(&loop_, UV_RUN_NOWAIT);
    return {};
  }

  void DrainPeer() {
    char chunk[kBufferBytes];
    for (;;) {
      ssize_t count = recv(peer_.Get(), chunk, sizeof chunk, MSG_DONTWAIT);
      if (count == -1 && errno == EINTR) continue;
      if (count <= 0) return;
      arrived_.append(chunk, static_cast<size_t>(count));
    }
  }

  // What arrived and what the walk finds must together be what was written, and both must be there.
  std::string CompareTail(const std::string& when) {
    DrainPeer();
    std::string whole = arrived_;
    ForEachUnsent(Stream(), [&](const uv_buf_t& buffer) { whole.append(buffer.base, buffer.len); });
    if (whole.size() == arrived_.size()) return "nothing was left in the write queue " + when;
    if (arrived_.empty()) return "no part of the write queue was written " + when;
    if (whole.size() != kTotalBytes) {
      return "the write queue holds " + std::to_string(whole.size() - arrived_.size()) + " bytes instead of " +
             std::to_string(kTotalBytes - arrived_.size()) + " " + when;
    }
    if (!std::equal(whole.begin(), whole.end(), bytes_.begin())) return "the write queue holds other bytes " + when;
    if (!CountAgrees(Stream())) return "write_queue_size differs from the sum of the buffers " + when;
    return {};
  }

  // uv_read_stop must leave what arrives from then on in the kernel.
  std::string CheckReadStop() {
    if (int error = uv_read_start(Stream(), OnAllocate, OnRead)) return Failed("uv_read_start", error);
    if (send(peer_.Get(), "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) return Failed("send", -errno);
    uv_run(&loop_, UV_RUN_NOWAIT);
    if (read_bytes_ != 1) return "uv_read_start did not read the byte that was there";
    uv_read_stop(Stream());
    if (send(peer_.Get(), "b", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) return Failed("send", -errno);
    uv_run(&loop_, UV_RUN_NOWAIT);
    return read_bytes_ == 1 ? std::string() : "a stream went on reading after uv_read_stop";
  }

  static void OnWritten(uv_write_t* request, int) { static_cast<Rig*>(request->data)->callbacks_++; }

  static void OnAllocate(uv_handle_t* handle, size_t, uv_buf_t* buffer) {
    Rig* rig = static_cast<Rig*>(handle->data);
    *buffer = uv_buf_init(rig->read_buffer_, sizeof rig->read_buffer_);
  }

  static void OnRead(uv_stream_t* stream, ssize_t count, const uv_buf_t*) {
    if (count > 0) static_cast<Rig*>(stream->data)->read_bytes_ += count;
  }

  uv_stream_t* Stream() { return reinterpret_cast<uv_stream_t*>(&pipe_); }

  uv_loop_t loop_;
  uv_pipe_t pipe_;
  bool pipe_ready_ = false;
  UniqueFd peer_;
  uv_write_t requests_[kRequests];
  std::vector<char> bytes_;
  std::string arrived_;
  char read_buffer_[16];
  ssize_t read_bytes_ = 0;
  size_t callbacks_ = 0;
};

Napi::Value IsMainThread(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), gettid() == getpid()); }

Napi::Value SelfTest(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), Rig().Run()); }

}  // namespace

void InitSelfTest(Napi::Env env, Napi::Object exports) {
  Export<SelfTest>(env, exports, "selfTest");
  Export<IsMainThread>(env, exports, "isMainThread");
}

}  // namespace tsunagi
