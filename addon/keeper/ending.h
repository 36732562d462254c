// How sockets end that nobody has come for.

#pragma once

#include <stddef.h>

// Closes a descriptor if it is a listener (`listeners`), or if it is none. Whoever has both ends the listeners first, so that the address is free for whoever
// listens from then on.
void EndPolitely(int fd, int listeners);
