// What a keeper holds: bytes, and descriptors at their places among them; read once, played as often as somebody comes for it.

#pragma once

#include <stddef.h>
#include <stdint.h>

struct TapeFd {
  uint64_t at;
  int fd;
};

struct Tape {
  // The server lives on: its connections come one by one, and what is on the tape behind the offer are the frames to play them with (escrow.h).
  int is_escrow;
  uint32_t hold_ms;
  // How long a process that has come may take to boot.
  uint32_t patience_ms;
  // Who starts the next process, 0 for nobody that is known, and for how long it is quiet at most before it does.
  uint32_t supervisor;
  uint32_t quiet_ms;
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
  // Some did not fit: this process may open no more.
  int is_truncated;
};

// Most descriptors in one message that this process sends (src/channel/messages.ts).
enum { kMostSentFds = 252 };

// 0, or -1: the server is gone, has stopped or does not make sense. All file descriptors that came are in the tape then as well.
int ReadTape(struct Tape* tape, int from, int stall_ms);

// Sends the bytes from one place to another, each descriptor with the byte at its place. 0, or -1: the peer is gone or takes nothing.
int PlayTape(const struct Tape* tape, int to, uint64_t begin, uint64_t end, int stall_ms);

// Reads that many bytes; descriptors that come with them are appended to those of the tape, at place 0. 0 or -1.
int ReceiveWithFds(struct Tape* tape, int from, void* into, uint64_t bytes, int stall_ms);

// The first byte goes with the descriptors, if there are any. 0 or -1.
int SendWithFds(int to, const uint8_t* data, uint64_t bytes, const int* fds, size_t count, int stall_ms);

int SendAll(int to, const uint8_t* data, size_t bytes, int stall_ms);

// The name after `name`, or NULL.
const char* NextName(const struct Tape* tape, const char* name);

// Closes what came with it, and forgets it.
void DropTape(struct Tape* tape);

// The length of a frame without segments, of which 16 bytes are there.
size_t FrameBytes(const uint8_t* frame);

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
