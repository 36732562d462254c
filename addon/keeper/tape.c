#include "tape.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kMostFds = 253 };

// In front of the tape, little-endian, as src/holders/tape.ts writes it.
struct __attribute__((packed)) Preamble {
  uint32_t magic;
  uint32_t version;
  uint32_t hold_ms;
  uint32_t patience_ms;
  uint32_t names_bytes;
  uint32_t ack_bytes;
  uint32_t busy_bytes;
  uint32_t offer_bytes;
  uint64_t bytes;
  uint32_t supervisor;
  uint32_t quiet_ms;
};

static const uint32_t kMagic = 0x4b4e5354;  // "TSNK"
static const uint32_t kEscrowMagic = 0x454e5354;  // "TSNE"
static const uint32_t kVersion = 2;

static int WaitFor(int fd, short events, int timeout_ms) {
  struct pollfd poll_fd = {.fd = fd, .events = events};
  for (;;) {
    int ready = poll(&poll_fd, 1, timeout_ms);
    if (ready > 0) return 0;
    if (ready == 0 || errno != EINTR) return -1;
  }
}

// ---- reading

static int KeepFds(struct Tape* tape, uint64_t at, struct msghdr* message) {
  for (struct cmsghdr* header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    struct TapeFd* fds = realloc(tape->fds, (tape->fd_count + count) * sizeof *fds);
    if (!fds) return -1;
    tape->fds = fds;
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      tape->fds[tape->fd_count++] = (struct TapeFd){at, fd};
    }
  }
  if (message->msg_flags & MSG_CTRUNC) tape->is_truncated = 1;
  return 0;
}

// Descriptors that come with these bytes are kept for that place of the tape.
static int ReceiveAll(struct Tape* tape, int from, uint8_t* into, uint64_t bytes, int is_tape, int stall_ms) {
  for (uint64_t got = 0; got < bytes;) {
    union {
      struct cmsghdr align;
      char bytes[CMSG_SPACE(kMostFds * sizeof(int))];
    } control;
    struct iovec part = {into + got, bytes - got};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t received = recvmsg(from, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (received > 0) {
      if (KeepFds(tape, is_tape ? got : 0, &message) != 0) return -1;
      got += (uint64_t)received;
    } else if (received == 0 || (errno != EAGAIN && errno != EINTR) || WaitFor(from, POLLIN, stall_ms) != 0) {
      return -1;
    }
  }
  return 0;
}

int ReceiveWithFds(struct Tape* tape, int from, void* into, uint64_t bytes, int stall_ms) {
  return ReceiveAll(tape, from, into, bytes, 0, stall_ms);
}

static void* ReceiveNew(struct Tape* tape, int from, uint64_t bytes, int is_tape, int stall_ms) {
  uint8_t* into = malloc(bytes + 1);
  if (!into || ReceiveAll(tape, from, into, bytes, is_tape, stall_ms) != 0) return NULL;
  into[bytes] = 0;
  return into;
}

int ReadTape(struct Tape* tape, int from, int stall_ms) {
  struct Preamble preamble;
  if (ReceiveAll(tape, from, (uint8_t*)&preamble, sizeof preamble, 0, stall_ms) != 0) return -1;
  if ((preamble.magic != kMagic && preamble.magic != kEscrowMagic) || preamble.version != kVersion || preamble.offer_bytes > preamble.bytes) return -1;
  tape->is_escrow = preamble.magic == kEscrowMagic;
  tape->hold_ms = preamble.hold_ms;
  tape->patience_ms = preamble.patience_ms;
  tape->names_bytes = preamble.names_bytes;
  tape->ack_bytes = preamble.ack_bytes;
  tape->busy_bytes = preamble.busy_bytes;
  tape->offer_bytes = preamble.offer_bytes;
  tape->bytes = preamble.bytes;
  tape->supervisor = preamble.supervisor;
  tape->quiet_ms = preamble.quiet_ms;
  tape->names = ReceiveNew(tape, from, tape->names_bytes, 0, stall_ms);
  tape->ack = tape->names ? ReceiveNew(tape, from, tape->ack_bytes, 0, stall_ms) : NULL;
  tape->busy = tape->ack ? ReceiveNew(tape, from, tape->busy_bytes, 0, stall_ms) : NULL;
  tape->data = tape->busy ? ReceiveNew(tape, from, tape->bytes, 1, stall_ms) : NULL;
  return tape->data && !tape->is_truncated ? 0 : -1;
}

void DropTape(struct Tape* tape) {
  for (size_t i = 0; i < tape->fd_count; i++) close(tape->fds[i].fd);
  free(tape->fds);
  free(tape->names);
  free(tape->ack);
  free(tape->busy);
  free(tape->data);
  *tape = (struct Tape){0};
}

const char* NextName(const struct Tape* tape, const char* name) {
  const char* next = name + strlen(name) + 1;
  return next < tape->names + tape->names_bytes ? next : NULL;
}

// ---- playing

int SendWithFds(int to, const uint8_t* data, uint64_t bytes, const int* fds, size_t count, int stall_ms) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(kMostSentFds * sizeof(int))];
  } control;
  while (bytes > 0) {
    struct iovec part = {(void*)data, bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
      memset(&control, 0, sizeof control);
      message.msg_control = control.bytes;
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      struct cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(count * sizeof(int));
      memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    ssize_t sent = sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      data += sent;
      bytes -= (uint64_t)sent;
      count = 0;
    } else if (errno == ETOOMANYREFS || errno == ENOBUFS) {
      // More in flight than this user may have (unix(7)): the peer has to take some first.
      if (stall_ms-- <= 0) return -1;
      poll(NULL, 0, 1);
    } else if ((errno != EAGAIN && errno != EINTR) || WaitFor(to, POLLOUT, stall_ms) != 0) {
      return -1;
    }
  }
  return 0;
}

int SendAll(int to, const uint8_t* data, size_t bytes, int stall_ms) { return SendWithFds(to, data, bytes, NULL, 0, stall_ms); }

int PlayTape(const struct Tape* tape, int to, uint64_t begin, uint64_t end, int stall_ms) {
  size_t next = 0;
  while (next < tape->fd_count && tape->fds[next].at < begin) next++;
  for (uint64_t at = begin; at < end;) {
    int fds[kMostSentFds];
    size_t count = 0;
    while (next < tape->fd_count && tape->fds[next].at == at && count < kMostSentFds) fds[count++] = tape->fds[next++].fd;
    uint64_t until = next < tape->fd_count && tape->fds[next].at < end ? tape->fds[next].at : end;
    if (until <= at) return -1;
    if (SendWithFds(to, tape->data + at, until - at, fds, count, stall_ms) != 0) return -1;
    at = until;
  }
  return 0;
}

// ---- frames

static uint32_t LittleEndian(const uint8_t* bytes) {
  return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

size_t FrameBytes(const uint8_t* frame) { return 16 + (size_t)LittleEndian(frame + 4); }

int CountFrames(struct FrameCounter* counter, int from) {
  uint8_t scrap[256];
  for (;;) {
    int is_head = counter->left == 0;
    uint8_t* into = is_head ? counter->head + counter->filled : scrap;
    size_t wanted = is_head ? sizeof counter->head - counter->filled : counter->left < sizeof scrap ? counter->left : sizeof scrap;
    ssize_t got = recv(from, into, wanted, MSG_DONTWAIT);
    if (got == 0) return kGone;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN ? kNothingYet : kGone;
    if (is_head) {
      counter->filled += (size_t)got;
      if (counter->filled < sizeof counter->head) continue;
      counter->filled = 0;
      counter->left = LittleEndian(counter->head + 4);
      // It is only ever told words without segments or descriptors.
      if (LittleEndian(counter->head) != 0x474e5354 || counter->left == 0 || LittleEndian(counter->head + 8) != 0) return kGone;
    } else {
      counter->left -= (uint64_t)got;
      if (counter->left == 0) return ++counter->frames;
    }
  }
}
