#include "escrow.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// As src/survive/escrow.ts writes it: little-endian, the places behind it, the descriptors of those that come with its first byte.
struct Order {
  uint32_t what;
  uint32_t count;
};
enum { kPut = 1, kDrop = 2, kGo = 3, kTape = 4 };

// More than any process may have open.
enum { kMostPlaces = 1 << 22, kMostInOrder = 1 << 16 };

static int MakeRoom(struct Escrow* escrow, size_t places) {
  if (places <= escrow->room) return 0;
  size_t room = places * 2;
  int* fds = realloc(escrow->fds, room * sizeof *fds);
  if (!fds) return -1;
  memset(fds + escrow->room, 0xff, (room - escrow->room) * sizeof *fds);
  escrow->fds = fds;
  escrow->room = room;
  return 0;
}

static void Drop(struct Escrow* escrow, uint32_t place) {
  if (place >= escrow->room || escrow->fds[place] < 0) return;
  close(escrow->fds[place]);
  escrow->fds[place] = -1;
}

// Where this process may open no more, fewer descriptors came than places: the last ones stay with the server alone.
static int Put(struct Escrow* escrow, const uint32_t* places, uint32_t count, const struct Tape* came) {
  size_t next = 0;
  for (; next < came->fd_count && next < count; next++) {
    if (places[next] >= kMostPlaces || MakeRoom(escrow, places[next] + 1) != 0) return -1;
    Drop(escrow, places[next]);
    escrow->fds[places[next]] = came->fds[next].fd;
  }
  for (; next < came->fd_count; next++) close(came->fds[next].fd);
  return 0;
}

enum OrderRead ReadOrder(struct Escrow* escrow, int from, int stall_ms) {
  struct Order order;
  struct Tape came = {0};
  uint32_t* places = NULL;
  enum OrderRead result = kServerGone;
  if (ReceiveWithFds(&came, from, &order, sizeof order, stall_ms) != 0 || order.count > kMostInOrder) goto done;
  if (order.count > 0) {
    places = malloc(order.count * sizeof *places);
    if (!places || ReceiveWithFds(&came, from, places, order.count * sizeof *places, stall_ms) != 0) goto done;
  }
  if (order.what == kGo) result = kGoodbye;
  else if (order.what == kTape) result = kNewTape;
  else if (order.what == kPut) result = Put(escrow, places, order.count, &came) == 0 ? kTaken : kServerGone;
  else if (order.what == kDrop) {
    for (uint32_t i = 0; i < order.count; i++) Drop(escrow, places[i]);
    result = kTaken;
  }
done:
  free(places);
  free(came.fds);
  return result;
}

enum { kMostFrameBytes = 64 };

// The frame on the tape says that one descriptor comes: how many really do stands in its head, and in its last byte.
static int SendBatch(const uint8_t* frame, size_t bytes, const int* fds, size_t count, int to, int stall_ms) {
  uint8_t patched[kMostFrameBytes];
  memcpy(patched, frame, bytes);
  patched[12] = (uint8_t)count;
  patched[bytes - 1] = (uint8_t)count;
  return SendWithFds(to, patched, bytes, fds, count, stall_ms);
}

int PlayEscrow(const struct Escrow* escrow, const struct Tape* tape, int to, int stall_ms) {
  const uint8_t* frame = tape->data + tape->offer_bytes;
  size_t left = tape->bytes - tape->offer_bytes;
  size_t bytes = left < 16 ? 0 : FrameBytes(frame);
  if (bytes == 0 || bytes > left || bytes > kMostFrameBytes) return -1;
  int fds[kMostSentFds];
  size_t count = 0;
  for (size_t place = 0; place < escrow->room; place++) {
    if (escrow->fds[place] < 0) continue;
    fds[count++] = escrow->fds[place];
    if (count < kMostSentFds) continue;
    if (SendBatch(frame, bytes, fds, count, to, stall_ms) != 0) return -1;
    count = 0;
  }
  if (count > 0 && SendBatch(frame, bytes, fds, count, to, stall_ms) != 0) return -1;
  return SendAll(to, frame + bytes, left - bytes, stall_ms);
}
