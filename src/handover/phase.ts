/** The phases of a handover in their order: the value of `phase` in every error, log line and report. */
export const PHASES = [
  'negotiate',
  'listen',
  'arm',
  'freeze',
  'snapshot',
  'send',
  'receive',
  'restore',
  'commit',
  'resume',
  'settle',
  'drain',
] as const

export type Phase = (typeof PHASES)[number]
