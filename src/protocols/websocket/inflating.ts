/**
 * The receiving side of permessage-deflate. With context takeover a message may refer to what earlier ones have said, up to 32 KiB back, so the next
 * process needs the last 32 KiB of plaintext; in the middle of a fragmented message also how far its inflater is. Nothing is recorded for the first:
 * the inflater says it, provided that it began with a window of zeros. For the second, fragments are kept as they came until their message is complete.
 *
 * The sending side needs nothing: a fresh deflater refers to nothing, which every inflater understands.
 */
import { tellsWindows, windowOf } from '../../native/net-internals.js'
import type { PerMessageDeflate } from './ws.js'

/** What has to be known of an inflater to go on with it elsewhere. */
export interface Inflated {
  /** What it can refer to, at the begin of the present message: without the zeros it began with. */
  readonly window: Uint8Array
  /** Fragments of the present message, compressed. */
  readonly fragments: readonly Uint8Array[]
}

/** Has to be called before the first message is inflated. `window` is what an earlier process's inflater remembered. */
export function prepareInflating(deflate: PerMessageDeflate, window: Uint8Array = NOTHING): void {
  if (progress(deflate) !== undefined || deflate._inflate || !tellsWindows()) return
  const dictionary = window.length === 0 ? ZEROS : Buffer.concat([ZEROS.subarray(window.length), window])
  deflate._options = { ...deflate._options, zlibInflateOptions: { ...deflate._options?.zlibInflateOptions, dictionary } }
  const state: Progress = { message: undefined }
  ;(deflate as Tracked)[PROGRESS] = state
  const decompress = deflate.decompress
  deflate.decompress = function decompressAndKeep(data, fin, callback) {
    if (fin) state.message = undefined
    else keep(deflate, state, data)
    decompress.call(this, data, fin, callback)
  }
}

/** Whether `inflatedOf` can tell, without asking zlib: at a boundary, or in the middle of a message. */
export function isInflaterKnown(deflate: PerMessageDeflate, isMidMessage: boolean): boolean {
  const state = progress(deflate)
  return state ? state.message !== TOO_LONG : !isMidMessage && deflate.params?.client_no_context_takeover === true
}

/** `undefined` where it cannot be told: it was not prepared, or the message under way is too long to be kept. The receiver has to be quiescent. */
export function inflatedOf(deflate: PerMessageDeflate): Inflated | undefined {
  const state = progress(deflate)
  if (state === undefined) return undefined
  if (state.message) return state.message === TOO_LONG ? undefined : state.message
  const window = remembered(deflate)
  return window && { window, fragments: [] }
}

function progress(deflate: PerMessageDeflate): Progress | undefined {
  return (deflate as Tracked)[PROGRESS]
}

function keep(deflate: PerMessageDeflate, state: Progress, fragment: Uint8Array): void {
  if (state.message === TOO_LONG) return
  if (state.message === undefined) {
    const window = remembered(deflate)
    state.message = window ? { window, fragments: [], length: 0 } : TOO_LONG
  }
  const { message } = state
  message.length += fragment.length
  if (message.length > MAX_KEPT) state.message = TOO_LONG
  else message.fragments.push(Buffer.from(fragment)) // a copy: it is a view of a buffer that would be kept with it
}

/** The window of an idle inflater; of one that has not begun, what it will begin with. */
function remembered(deflate: PerMessageDeflate): Uint8Array | undefined {
  const { params, _inflate, _options } = deflate
  if (params?.client_no_context_takeover) return NOTHING
  if (_inflate) {
    const window = windowOf(_inflate, params?.client_max_window_bits ?? MOST_BITS)
    return window && withoutZeros(window)
  }
  return withoutZeros(_options?.zlibInflateOptions?.dictionary ?? NOTHING)
}

function withoutZeros(window: Uint8Array): Uint8Array {
  const first = window.findIndex((byte) => byte !== 0)
  return first < 0 ? NOTHING : window.slice(first)
}

interface Progress {
  /** The compressed message whose fragments are coming in. */
  message: { window: Uint8Array; fragments: Uint8Array[]; length: number } | undefined
}

interface Tracked extends PerMessageDeflate {
  [PROGRESS]?: Progress
}

const PROGRESS = Symbol('tsunagi.inflating')
const TOO_LONG = { window: new Uint8Array(), fragments: [], length: 0 }
/** Bytes of one message that are kept until it is complete; a longer one is completed by the process that has begun it. */
const MAX_KEPT = 16 * 1024 * 1024
const NOTHING = new Uint8Array()
/** @note RFC 7692, 7.1.2: what is agreed on if nothing is said. */
const MOST_BITS = 15
/** @note RFC 1951: a reference goes back 32 KiB at most. */
const ZEROS = Buffer.alloc(2 ** MOST_BITS)
