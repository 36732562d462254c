#pragma once

#include <cstddef>

#include "connection_record.h"
#include "unique_fd.h"

namespace tsunagi {

// Whether a connection has a TCP-MD5 key (RFC 2385). There is no getsockopt(2) for that; sock_diag tells, to whom has CAP_NET_ADMIN. Others are
// told of none.
class Md5Keys {
 public:
  bool Has(const Tuple& tuple, int family);

 private:
  UniqueFd fd_;
  bool is_useless_ = false;
};

}  // namespace tsunagi
