/**
 * The only place that knows Node's private fields. Everything else asks here, by name of what it wants.
 *
 * @note Read in lib/net.js, lib/internal/stream_base_commons.js and lib/internal/streams/*.js of Node 20.20.2, 22.23.3, 24.21.0 and 26.10.0;
 * the e2e matrix runs on each. Users: attach, listener, predecessor/{enumerate,snapshot,release}, successor/{restore,resume}, protocols/raw.
 * Not here is what only crash survival needs (net-internals/surviving.ts): whatever this file has is part of every start.
 */
export * from './net-internals/arriving.js'
export * from './net-internals/datagrams.js'
export * from './net-internals/http.js'
export * from './net-internals/http2.js'
export * from './net-internals/leaving.js'
export * from './net-internals/looking.js'
export { type Listen2, learnOwnerSymbol, type ServerHandle, type TcpHandle } from './net-internals/private-fields.js'
export * from './net-internals/servers.js'
export * from './net-internals/zlib-window.js'
