#include "connection_record.h"

#include <cerrno>

namespace tsunagi {
namespace {

bool ToEnd(const sockaddr_storage& storage, Tuple::End* end) {
  if (storage.ss_family == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(storage);
    std::memcpy(end->address, &address.sin6_addr, 16);
    std::memcpy(end->port, &address.sin6_port, 2);
    return true;
  }
  if (storage.ss_family != AF_INET) return false;
  const auto& address = reinterpret_cast<const sockaddr_in&>(storage);
  std::memset(end->address, 0, 10);
  std::memset(end->address + 10, 0xff, 2);
  std::memcpy(end->address + 12, &address.sin_addr, 4);
  std::memcpy(end->port, &address.sin_port, 2);
  return true;
}

}  // namespace

bool ReadTuple(int fd, Tuple* tuple, int* family, uint32_t* scope) {
  sockaddr_storage local{};
  sockaddr_storage peer{};
  socklen_t length = sizeof local;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == -1) return false;
  length = sizeof peer;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == -1) return false;
  if (!ToEnd(local, &tuple->local) || !ToEnd(peer, &tuple->peer)) {
    errno = EAFNOSUPPORT;
    return false;
  }
  *family = local.ss_family;
  *scope = local.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(local).sin6_scope_id : 0;
  return true;
}

socklen_t ToSockaddr(const Tuple::End& end, int family, uint32_t scope, sockaddr_storage* storage) {
  *storage = {};
  storage->ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET6) {
    auto& address = reinterpret_cast<sockaddr_in6&>(*storage);
    std::memcpy(&address.sin6_addr, end.address, 16);
    std::memcpy(&address.sin6_port, end.port, 2);
    address.sin6_scope_id = scope;
    return sizeof address;
  }
  auto& address = reinterpret_cast<sockaddr_in&>(*storage);
  std::memcpy(&address.sin_addr, end.address + 12, 4);
  std::memcpy(&address.sin_port, end.port, 2);
  return sizeof address;
}

}  // namespace tsunagi
