// What a keeper holds: bytes, and descriptors at their places among them; read once, played as often as somebody comes for it.

#pragma once

#include <stddef.h>
#include <stdint.h>

struct TapeFd {
  uint64_t at;
  int fd;
};

struct Tape {
  uint32_t hold_ms;
  // How long a process that has come may take to boot.
  uint32_t patience_ms;
  // Paths, each with its NUL: first a private one, then those under which the keeper is found.
  char* names;
  size_t names_bytes;
  // What it answers: to the server when it has everything, to a second process that comes.
  uint8_t* ack;
  size_t ack_bytes;
  uint8_t* busy;
  size_t busy_bytes;
  // The first `offer_bytes` are for a process that comes, the rest for one that says go.
  uint8_t* data;
  uint64_t offer_bytes;
  uint64_t bytes;
  struct TapeFd* fds;
  size_t fd_count;
};

// 0, or -1: the server is gone, has stopped or does not make sense. All file descriptors that came are in the tape then as well.
int ReadTape(struct Tape* tape, int from, int stall_ms);

// Sends the bytes from one place to another, each descriptor with the byte at its place. 0, or -1: the peer is gone or takes nothing.
int PlayTape(const struct Tape* tape, int to, uint64_t begin, uint64_t end, int stall_ms);

int SendAll(int to, const uint8_t* data, size_t bytes, int stall_ms);

// The name after `name`, or NULL.
const char* NextName(const struct Tape* tape, const char* name);

// Counts whole frames of the layout of src/channel/frame.ts without looking into them.
struct FrameCounter {
  uint8_t head[16];
  size_t filled;
  uint64_t left;
  int frames;
};

enum { kGone = -1, kNothingYet = -2 };

// Reads what is there, up to the end of one frame: the number of frames so far, kNothingYet, or kGone.
int CountFrames(struct FrameCounter* counter, int from);
