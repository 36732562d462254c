{
  "targets": [
    {
      "target_name": "tsunagi",
      "sources": [
        "src/addon.cc",
        "src/arguments.cc",
        "src/connection_record.cc",
        "src/fd_channel.cc",
        "src/fds.cc",
        "src/hold_table.cc",
        "src/holds.cc",
        "src/inject.cc",
        "src/keeper.cc",
        "src/md5_key.cc",
        "src/napi_error.cc",
        "src/netlink.cc",
        "src/notify.cc",
        "src/packet_hold.cc",
        "src/process.cc",
        "src/raw_packet.cc",
        "src/repair.cc",
        "src/repair_mode.cc",
        "src/self_test.cc",
        "src/socket_options.cc",
        "src/streams.cc",
        "src/tcp_dump.cc",
        "src/tcp_restore.cc",
        "src/unix_socket.cc",
        "src/verify.cc",
        "src/wake.cc",
        "src/watcher.cc",
      ],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "_GNU_SOURCE",
        # Else an error in a worker thread that is being terminated, where nothing can be thrown, aborts the whole process.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
      ],
      "cflags": ["-Wall", "-Wextra", "-fvisibility=hidden"],
      "cflags_cc": ["-fvisibility-inlines-hidden"],
      "configurations": {
        "Release": {
          "cflags": ["-O2", "-fno-gnu-unique"],
          # A prebuilt binary must not ask for a newer libstdc++ than the machine it lands on has.
          "ldflags": ["-static-libgcc", "-static-libstdc++", "-Wl,--exclude-libs,ALL", "-Wl,-z,relro,-z,now", "-s"],
        },
        "Debug": {
          "cflags": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
          "ldflags": ["-fsanitize=address,undefined"],
        },
      },
    },
  ],
}
