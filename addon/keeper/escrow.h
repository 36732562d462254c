// Connections of a server that lives: a copy of each, for the day it crashes. The server says which come and which go, each by a place of its own.

#pragma once

#include <stddef.h>

#include "tape.h"

struct Escrow {
  int* fds;  // by place, -1 for none
  size_t room;
};

enum OrderRead { kServerGone = -1, kTaken, kGoodbye, kNewTape };

// One order of the server. Behind kNewTape a tape follows.
enum OrderRead ReadOrder(struct Escrow* escrow, int from, int stall_ms);

// Sends every descriptor, in batches, and then that this was all. The frames for both are on the tape, behind the offer. 0 or -1.
int PlayEscrow(const struct Escrow* escrow, const struct Tape* tape, int to, int stall_ms);
