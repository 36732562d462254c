#pragma once

#include <uv.h>

#include <cstddef>

namespace tsunagi {

// Reads libuv's write queue of a stream, which has no function for it, through the fields of the public structs.
// uv_stream_t.write_queue is the head of a ring of uv_write_t, linked by uv_write_t.queue:
//
//     stream.write_queue <-> request.queue <-> request.queue <-> (back to the head)
//                            bufs[write_index..nbufs]: what is left; the first of them already starts after a partial write
//
// @note libuv 1.46 to 1.52: include/uv/unix.h (UV_STREAM_PRIVATE_FIELDS, UV_WRITE_PRIVATE_FIELDS), src/unix/stream.c
// (uv__write, uv__write_req_update). The field types are `void*[2]` up to 1.45 and `struct uv__queue` from there: two pointers,
// next first, in both. selfTest() proves all of it against the libuv this process runs.
struct QueueLink {
  QueueLink* next;
  QueueLink* previous;
};

template <typename Visit>
void ForEachBuffer(const void* head, Visit visit) {
  const auto* end = static_cast<const QueueLink*>(head);
  for (const QueueLink* link = end->next; link != end; link = link->next) {
    const auto* request =
        reinterpret_cast<const uv_write_t*>(reinterpret_cast<const char*>(link) - offsetof(uv_write_t, queue));
    // A request that has written everything has no buffers any more.
    if (request->bufs == nullptr) continue;
    for (unsigned index = request->write_index; index < request->nbufs; index++) visit(request->bufs[index]);
  }
}

// The bytes that were neither written nor failed, in order.
template <typename Visit>
void ForEachUnsent(const uv_stream_t* stream, Visit visit) {
  ForEachBuffer(&stream->write_queue, visit);
}

inline size_t UnsentBytes(const uv_stream_t* stream) {
  size_t bytes = 0;
  ForEachUnsent(stream, [&](const uv_buf_t& buffer) { bytes += buffer.len; });
  return bytes;
}

// Whether the walk agrees with libuv's own count, which also holds requests that failed and wait for their callback.
inline bool CountAgrees(const uv_stream_t* stream) {
  size_t bytes = UnsentBytes(stream);
  ForEachBuffer(&stream->write_completed_queue, [&](const uv_buf_t& buffer) { bytes += buffer.len; });
  return bytes == uv_stream_get_write_queue_size(stream);
}

}  // namespace tsunagi
