// tsunagi-repair: has CAP_NET_ADMIN so that a server need not. It puts TCP sockets that are sent to it into repair mode and out of it, and holds
// the packets of ports and connections, for processes of its own user. It does nothing else.
//
//   tsunagi-repair <path> [--uid <number>] [--port <number>]…
//
// <path> is the unix socket it listens on. --uid is for root, who must name whom it becomes; --port allows to hold a port that not every
// user may listen on.

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "client.h"
#include "port_range.h"
#include "privileges.h"
#include "src/deadline.h"
#include "src/holds.h"
#include "src/unique_fd.h"
#include "syscall_filter.h"

namespace tsunagi {
namespace {

constexpr size_t kMaxClients = 64;
constexpr int kDefaultFirstPort = 1024;

struct Settings {
  std::string path;
  uid_t uid = geteuid();
  AllowedPorts ports{kDefaultFirstPort};
};

[[noreturn]] void Usage() {
  fprintf(stderr, "usage: tsunagi-repair <path> [--uid <number>] [--port <number>]...\n");
  exit(2);
}

int ToNumber(const char* text) {
  char* end;
  errno = 0;
  long number = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || number < 0 || number > INT32_MAX) Usage();
  return static_cast<int>(number);
}

int FirstUnprivilegedPort() {
  int first = kDefaultFirstPort;
  FILE* file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
  if (file == nullptr) return first;
  if (fscanf(file, "%d", &first) != 1) first = kDefaultFirstPort;
  fclose(file);
  return first;
}

Settings ReadSettings(int argc, char** argv) {
  static const option kOptions[] = {{"uid", required_argument, nullptr, 'u'}, {"port", required_argument, nullptr, 'p'}, {}};
  Settings settings;
  settings.ports = AllowedPorts(FirstUnprivilegedPort());
  bool named = false;
  for (int found; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    if (found == 'u') {
      settings.uid = static_cast<uid_t>(ToNumber(optarg));
      named = true;
    } else if (found == 'p') {
      settings.ports.Add(ToNumber(optarg));
    } else {
      Usage();
    }
  }
  if (optind != argc - 1) Usage();
  settings.path = argv[optind];
  if (geteuid() == 0 && !named) errx(EXIT_FAILURE, "started by root it needs --uid: that of the servers it is for");
  return settings;
}

// Under a name of its own first, so that a path never names a socket that does not listen, and what a dead helper left is replaced.
UniqueFd Listen(const std::string& path) {
  std::string temporary = path + "." + std::to_string(getpid());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (temporary.size() >= sizeof address.sun_path) errx(EXIT_FAILURE, "%s is too long for the path of a socket", path.c_str());
  memcpy(address.sun_path, temporary.c_str(), temporary.size() + 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  umask(0177);
  if (!fd || bind(fd.Get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == -1 || listen(fd.Get(), kMaxClients) == -1) {
    err(EXIT_FAILURE, "cannot listen on %s", path.c_str());
  }
  if (rename(temporary.c_str(), path.c_str()) == -1) {
    int failed = errno;
    unlink(temporary.c_str());
    errno = failed;
    err(EXIT_FAILURE, "cannot listen on %s", path.c_str());
  }
  return fd;
}

UniqueFd AcceptOwn(int listener, uid_t uid) {
  UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ucred peer{};
  socklen_t length = sizeof peer;
  if (!fd || getsockopt(fd.Get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == -1 || peer.uid != uid) return UniqueFd();
  return fd;
}

[[noreturn]] void Run(int listener, const Settings& settings) {
  Holds holds;
  std::vector<std::unique_ptr<Client>> clients;
  for (;;) {
    std::vector<pollfd> polled{{listener, static_cast<short>(clients.size() < kMaxClients ? POLLIN : 0), 0}};
    for (const auto& client : clients) polled.push_back({client->Fd(), POLLIN, 0});
    if (PollUntil(polled.data(), polled.size(), Deadline(-1)) == -1) err(EXIT_FAILURE, "poll");
    std::vector<std::unique_ptr<Client>> kept;
    for (size_t index = 0; index < clients.size(); index++) {
      if (polled[index + 1].revents == 0 || clients[index]->Serve()) kept.push_back(std::move(clients[index]));
    }
    clients = std::move(kept);
    if (polled[0].revents == 0) continue;
    if (UniqueFd fd = AcceptOwn(listener, settings.uid)) {
      clients.push_back(std::make_unique<Client>(std::move(fd), &holds, &settings.ports));
    }
  }
}

}  // namespace
}  // namespace tsunagi

int main(int argc, char** argv) {
  tsunagi::Settings settings = tsunagi::ReadSettings(argc, argv);
  tsunagi::KeepNetAdminOnly(settings.uid);
  tsunagi::UniqueFd listener = tsunagi::Listen(settings.path);
  signal(SIGPIPE, SIG_IGN);
  tsunagi::FilterSyscalls();
  // Whoever starts it may wait for this line; nobody has to.
  static const char kReady[] = "ready\n";
  if (write(STDOUT_FILENO, kReady, sizeof kReady - 1) == -1) errno = 0;
  tsunagi::Run(listener.Get(), settings);
}
