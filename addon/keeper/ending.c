#include "ending.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void EndConnection(int fd) {
  // Closing with bytes unread would be a reset.
  for (int round = 0; round < 16 && recv(fd, NULL, 1 << 20, MSG_TRUNC | MSG_DONTWAIT) > 0; round++) continue;
  shutdown(fd, SHUT_WR);
}

static void EndListener(int fd) {
  struct sockaddr_un address = {0};
  socklen_t length = sizeof address;
  int is_unix = getsockname(fd, (struct sockaddr*)&address, &length) == 0 && address.sun_family == AF_UNIX;
  // Else the path would be in use for ever, by nobody.
  if (is_unix && length > offsetof(struct sockaddr_un, sun_path) && address.sun_path[0] == '/') unlink(address.sun_path);
  for (;;) {
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (accepted < 0) break;
    EndConnection(accepted);
    close(accepted);
  }
}

void EndPolitely(int fd, int listeners) {
  int is_listener = 0;
  socklen_t length = sizeof is_listener;
  getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listener, &length);
  if (is_listener != listeners) return;
  if (is_listener) EndListener(fd);
  else EndConnection(fd);
  close(fd);
}
