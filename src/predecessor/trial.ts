import type { MessageOf } from '../channel/messages.js'
import type { Peer } from '../channel/peer.js'
import { TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import { takeLent } from '../successor/take-over.js'
import type { HandedOver } from './hand-over.js'
import { Loan } from './loan.js'
import { SilenceWatch } from './silence-watch.js'

/**
 * The time in which the successor has the canary's connections and nothing else: this process accepts and serves the others. It ends with the rest following,
 * with the canary's return because the successor is not well, or with its death. One that hangs is killed, since only its death gives anything back.
 */
export class Trial {
  readonly loan: Loan
  readonly #installation: Installation
  readonly #peer: Peer
  readonly #silence: SilenceWatch
  #returned = 0
  #reason: string | undefined

  constructor(installation: Installation, peer: Peer, handed: HandedOver) {
    this.#installation = installation
    this.#peer = peer
    this.loan = new Loan(installation, handed)
    this.#silence = new SilenceWatch(
      peer.credentials.pid,
      () => peer.channel.deliverNow(),
      () => this.#kill('it hung'),
    )
  }

  well(): void {
    this.#silence.heard()
  }

  /** What cannot come back is served on there until it ends. Resolves when the successor has nothing left of what it was lent. */
  async fetchBack({ address, reason }: MessageOf<'come'>): Promise<void> {
    this.#reason = reason ?? 'it gave its connections back'
    try {
      await takeLent(this.#installation, address, (identities) => {
        this.#returned += identities.size
        this.loan.returned(identities)
      })
    } catch (error) {
      this.#kill(`${this.#reason}, and its connections could not be fetched (${(error as Error).message})`)
      throw error
    }
  }

  /** The rest has followed. */
  settle(): void {
    this.#silence.close()
    this.loan.settle()
  }

  /** It is over, and has failed: what is told of it. */
  end({ back, lost }: { back: number; lost: number }): TsunagiError {
    this.#silence.close()
    const { size } = this.loan
    const came = this.#returned + back
    const ended = size - came - lost
    return new TsunagiError(
      'ERR_TSUNAGI_CANARY',
      `The new version, process ${this.#peer.credentials.pid}, was watched with ${size} connections and is not taken: ${this.#reason ?? 'it has died'}. ${came} came back, ${lost} that it may have touched were closed${ended > 0 ? `, ${ended} had ended there` : ''}. This process goes on serving.`,
      { phase: 'settle', serving: true },
    )
  }

  #kill(reason: string): void {
    if (this.#peer.provesDeath(0)) return
    this.#reason = reason
    this.#installation.env.log(`process ${this.#peer.credentials.pid} is killed: ${reason}`)
    process.kill(this.#peer.credentials.pid, 'SIGKILL')
  }
}
