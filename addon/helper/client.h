#pragma once

#include <cstdint>
#include <vector>

#include "port_range.h"
#include "protocol.h"
#include "src/connection_record.h"
#include "src/holds.h"
#include "src/unique_fd.h"

namespace tsunagi {

// One server that is connected: what it has sent of its next request. It is believed nothing.
class Client {
 public:
  Client(UniqueFd fd, Holds* holds, const AllowedPorts* ports) : fd_(std::move(fd)), holds_(holds), ports_(ports) {}

  int Fd() const { return fd_.Get(); }
  // Reads what there is and answers what is complete; false when this client is to be let go of.
  bool Serve();

 private:
  struct Numbers {
    std::vector<int32_t> numbers;
    std::vector<Tuple> tuples;
  };

  bool Receive();
  // How long the request at the start of what has come is; 0 while that is not known, -1 for one that is none.
  ssize_t RequestBytes() const;
  bool Perform();
  int Do(const Request& request, const Numbers& given, Numbers* result);
  int Hold(const Request& request, const Numbers& given, Numbers* result);
  int List(Numbers* result);
  bool Reply(int error, const Numbers& result);

  UniqueFd fd_;
  Holds* holds_;
  const AllowedPorts* ports_;
  std::vector<uint8_t> bytes_;
  std::vector<UniqueFd> received_;
};

}  // namespace tsunagi
