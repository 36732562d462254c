#include "names.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// All names are links to one socket file: renamed into place, so that a name never leads to a socket that does not listen.
int PublishNames(struct Names* names, const struct Tape* tape) {
  const char* private_path = tape->names;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  *names = (struct Names){.fd = -1};
  if (strlen(private_path) >= sizeof address.sun_path) return -1;
  strcpy(address.sun_path, private_path);
  names->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (names->fd < 0) return -1;
  unlink(private_path);
  umask(0177);
  if (bind(names->fd, (struct sockaddr*)&address, sizeof address) != 0 || listen(names->fd, 16) != 0) return -1;
  struct stat status;
  if (lstat(private_path, &status) != 0) return -1;
  names->inode = status.st_ino;
  char link_path[sizeof address.sun_path + 8];
  int result = 0;
  for (const char* name = NextName(tape, private_path); name; name = NextName(tape, name)) {
    snprintf(link_path, sizeof link_path, "%s.1", private_path);
    if (link(private_path, link_path) != 0 || rename(link_path, name) != 0) result = -1;
  }
  unlink(private_path);
  return result;
}

void RemoveNames(struct Names* names, const struct Tape* tape) {
  struct stat status;
  for (const char* name = NextName(tape, tape->names); name; name = NextName(tape, name)) {
    // Somebody else may have put a socket of its own there.
    if (lstat(name, &status) == 0 && status.st_ino == names->inode) unlink(name);
  }
  if (names->fd >= 0) close(names->fd);
  names->fd = -1;
}

int AcceptOwn(const struct Names* names) {
  int peer = accept4(names->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (peer < 0) return -1;
  struct ucred credentials;
  socklen_t length = sizeof credentials;
  if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 && credentials.uid == geteuid()) return peer;
  close(peer);
  return -1;
}
