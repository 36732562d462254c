// Where the next process finds the keeper.

#pragma once

#include <sys/types.h>

#include "tape.h"

struct Names {
  int fd;  // the unix socket that all names lead to
  ino_t inode;
};

// 0, or -1: somebody who comes would not find it. `names` is to be removed either way.
int PublishNames(struct Names* names, const struct Tape* tape);
void RemoveNames(struct Names* names, const struct Tape* tape);

// The next peer of the same user, or -1.
int AcceptOwn(const struct Names* names);
