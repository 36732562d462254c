import type { IncomingMessage } from 'node:http'

/** A request without a body, as plain data. */
export interface RequestHead {
  readonly method: string
  readonly url: string
  readonly version: string
  /** Names and values in turn, as they came. */
  readonly headers: readonly string[]
}

/** `undefined`: it has a body, which is gone. @note Routers in the manner of connect shorten `url` while their handlers run and keep the whole as `originalUrl`. */
export function requestOf(request: IncomingMessage & { originalUrl?: string }): RequestHead | undefined {
  const { method = 'GET', url = '/', originalUrl = url, httpVersion, rawHeaders, headers } = request
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0) return undefined
  return { method, url: originalUrl, version: httpVersion, headers: rawHeaders }
}

/** Whether this came from `requestOf`: it is about to be read by a parser, and must be one request. */
export function isRequestHead(value: unknown): value is RequestHead {
  const { method, url, version, headers } = (value ?? {}) as Partial<RequestHead>
  if (!isText(method, /^[A-Z-]+$/) || !isText(url, /^[^\s\0]+$/) || !isText(version, /^1\.[01]$/)) return false
  if (!Array.isArray(headers) || headers.length % 2 !== 0) return false
  return headers.every((text, i) => isText(text, i % 2 === 0 ? /^[^\s:\0]+$/ : /^[^\r\n\0]*$/))
}

function isText(value: unknown, pattern: RegExp): boolean {
  return typeof value === 'string' && value.length <= MAX_TEXT && pattern.test(value)
}

/** The same request with one header more, or with another value of it; `undefined` takes it away. */
export function withHeader(request: RequestHead, name: string, value: string | undefined): RequestHead {
  const headers: string[] = []
  for (let i = 0; i < request.headers.length; i += 2) {
    const [key, present] = request.headers.slice(i, i + 2) as [string, string]
    if (key.toLowerCase() !== name.toLowerCase()) headers.push(key, present)
  }
  if (value !== undefined) headers.push(name, value)
  return { ...request, headers }
}

const MAX_TEXT = 64 * 1024
