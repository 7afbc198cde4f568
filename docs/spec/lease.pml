/* The lease: an enclave, two authorities and the parent between them (DESIGN 5, 6, 8, 12.5, 12.22).
 *
 * docs/spec/lease-model.md says what is modelled, what is left out, and why the bounds suffice;
 * tests/authority/test_lease_model.py runs the configurations and takes the rules out one by one.
 *
 * Claims, each an assertion that bears its name:
 *   SILENCE          no token once a lease has passed since either authority revoked
 *   OWN_RENEWAL      an answer counts only if an authority granted exactly the request that is outstanding
 *   FRESH_CHALLENGE  the owner grants no request made before this process of it began
 *   GRANTED_ONCE     the owner grants no request twice
 *   BOTH_SHARES      KEYED only when both authorities released to this boot
 *   LOGGED_RELEASE   SERVING only when the log has both releases
 *   LOG_LEASE        no request is admitted later than a log lease after the making of a record the log has
 *   CLOCK_CUT        no token once the clocks were seen to disagree
 *   NO_DEADLOCK      no lease ends and nothing gets stuck unless an authority revoked (honest parent, -DHONEST)
 *   TABLES           no step is taken that the code's tables refuse
 *
 * Configurations: LOG (the log is a party), CLOCKS (drift, steps), RESTARTS=n (of the owner), BOOTS=n (of the enclave),
 * HONEST. A rule is taken out by its name (-DNO_CHALLENGE, ...), and -DSHOW=n asserts that a good state is not reached:
 * both are there to be seen to fail. -DCLAIM=name checks that claim alone.
 */

#ifndef TTL
#define TTL 3                          /* ticks of a lease; a third is one tick */
#endif
#ifndef LOG_TTL
#define LOG_TTL 2                      /* ticks of a log lease */
#endif
#ifndef REQUESTS
#define REQUESTS 3                     /* of each source in a boot: the key and two renewals */
#endif
#ifndef KMS_REQUESTS
#define KMS_REQUESTS REQUESTS
#endif
#ifndef BOOTS
#define BOOTS 1
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef LOST
#ifdef CLOCKS
#define LOST 2                         /* ticks that the boot clock may lose in a run */
#else
#define LOST 0
#endif
#endif
#ifndef LOSSES
#define LOSSES 2                       /* of an honest parent: messages lost, and ticks that it is late, in a run */
#endif
#define TOLERANCE 1                    /* ticks by which module and boot clock may differ between two documents */
#define KMS 0
#define OWNER 1
#define IN_A_LIFE (REQUESTS * BOOTS)   /* challenges that one process of the owner issues: numbers in order of issue */
#define CHALLENGES (IN_A_LIFE * (RESTARTS + 1))
#define life_of(c) (((c) - 1) / IN_A_LIFE)
#define new_challenge (given < life * IN_A_LIFE -> life * IN_A_LIFE + 1 : given + 1)
#define CELLS (2 * BOOTS * REQUESTS)
#define cell(s, b, n) (((s) * BOOTS + (b)) * REQUESTS + (n) - 1)

mtype = { BOOT, MEASURED, LOGGED, KEYED, LOADED, SERVING, RESEALED, DRAINING, DEAD };  /* phases */
mtype = { CONFIGURATION_LOCKED, GENESIS_INCLUDED, KEY_PROVED, MODEL_LOADED, MODEL_RESEALED, RECORDS_INCLUDED,
          RENEWAL_REFUSED, SHUTDOWN_ASKED, LEASE_ENDED, DRAINED, FAILED };             /* steps */
mtype = { WAITING, OPEN, ENDED };                                                      /* the gate; DRAINING too */
mtype = { ALL_GRANTED, REFUSED, LOG_LEASE_ENDED, DEADLINE, CLOCK_DOUBT, FAULT, CLOSED };
mtype = { GRANT, REFUSAL, NOTHING };                                                   /* what comes back */

/* The claims. Variables, because pan prints their names; hidden, because they never change. */
hidden byte SILENCE = 1, OWN_RENEWAL = 2, FRESH_CHALLENGE = 3, GRANTED_ONCE = 4, BOTH_SHARES = 5, LOGGED_RELEASE = 6,
  LOG_LEASE = 7, CLOCK_CUT = 8, NO_DEADLOCK = 9, TABLES = 10, REACHED = 11;
#ifdef CLAIM
#define holds(name, what) assert((name != CLAIM) || (what))
#else
#define holds(name, what) assert(name && (what))
#endif

/* The enclave. */
mtype phase = BOOT;
mtype gate = WAITING;
byte boot;                             /* stands for the boot id */
byte number[2];                        /* of the last request to each source */
bool asking[2];                        /* ... is outstanding */
byte age[2];                           /* boot-clock ticks since it was sent */
bool share[2];
bool held[2];                          /* a lease is held ... */
short left[2];                         /* ... for so many boot-clock ticks; under 0 it is over */
bool stream;                           /* an answer is on its way out */

/* What the parent has seen, and can bring to anybody at any time, as often as it likes. */
byte given;                            /* challenges it handed over so far; it has as many more as it likes */
bool sent[CELLS];                      /* requests */
bool granted[CELLS];                   /* answers; also what the authorities journaled */
byte denied[2];                        /* 1 no, 2 void challenge (honest parent alone: another invents them) */
byte challenge_of[CELLS];              /* the challenge in a request to the owner; 0 for the KMS, which gives none */

/* The authorities. */
bool revoked[2];
byte life;                             /* processes of the owner so far */
bool used[CHALLENGES + 1];             /* challenges */
byte last[BOOTS];                      /* number of the last request granted to a boot */
byte made_in[CELLS];                   /* ghost: the owner's process when the request was made */

/* The log, and the enclave's records. */
#ifdef LOG
bool kept[2];                          /* the log has this boot's key-release record of the source */
bool proved[2];                        /* ... and the enclave has seen the proof */
byte beat;                             /* a heartbeat: 0 none, 1 made, 2 in the log */
byte beat_age;
bool log_held;
short log_left;
bool log_seen;                         /* ghost: the log has a heartbeat of this boot ... */
byte log_age;                          /* ... made so long ago */
#endif

/* Time. Since an authority revoked, in true ticks; what the boot clock lost; what the module's clock gained on it. */
byte since[2];
byte lost;
#ifdef CLOCKS
short skew;                            /* module clock less boot clock since the last document */
short unread;                          /* boot-clock ticks since the gate last read it: under 0 it went back */
bool disagreed;                        /* ghost: a reading has shown it */
#endif
#ifdef HONEST
byte losses;
bool finished;                         /* the numbers are used up: the run is over */
#endif
#ifdef SHOW
bool token, late_token, drain_token;   /* one passed; after a revocation; in a drain */
#if SHOW == 1                          /* it serves */
#define shown (phase == SERVING && token)
#elif SHOW == 2                        /* both sources have renewed twice */
#define shown (gate == OPEN && token && renewed(KMS, 3) && renewed(OWNER, 3))
#elif SHOW == 3                        /* revoked, served on, and silent when the lease was over */
#define shown (gate == ENDED && late_token && (since[KMS] == TTL || since[OWNER] == TTL))
#elif SHOW == 4                        /* refused, and drained within what was left */
#define shown (gate == ENDED && drain_token)
#elif SHOW == 5                        /* renewed by the owner's second process */
#define shown (life > 0 && renewed(OWNER, 2) && made_in[cell(OWNER, boot, 2)] > 0 && gate == OPEN)
#elif SHOW == 6                        /* the second boot serves */
#define shown (boot > 0 && phase == SERVING && token)
#elif SHOW == 7                        /* served, and cut when the clocks disagreed */
#define shown (token && disagreed && gate == ENDED)
#elif SHOW == 8                        /* an honest parent: all renewals, in spite of every loss and restart */
#define shown (finished && losses == LOSSES && life == RESTARTS && !revoked[KMS] && !revoked[OWNER])
#elif SHOW == 9                        /* the log lease ends, and an answer under way goes on */
#define shown (gate == DRAINING && drain_token && log_left <= 0 && left[KMS] > 0 && left[OWNER] > 0)
#endif
#define renewed(s, n) (number[s] == n && !asking[s] && granted[cell(s, boot, n)])
#endif

chan to_authority[2] = [0] of { byte, byte };
chan to_enclave = [0] of { mtype, byte, byte, byte };    /* what, of which source, to which boot and number */

/* ---- The two tables of the code: enclave/phases.py and enclave/keys/lease.py ---- */

inline take(what) {
  if
  /* begin table: phases */
  :: phase == BOOT && what == CONFIGURATION_LOCKED -> phase = MEASURED
  :: phase == MEASURED && what == GENESIS_INCLUDED -> phase = LOGGED
  :: phase == LOGGED && what == KEY_PROVED -> phase = KEYED
  :: phase == KEYED && what == MODEL_LOADED -> phase = LOADED
  :: phase == KEYED && what == MODEL_RESEALED -> phase = RESEALED
  :: phase == RESEALED && what == DRAINED -> phase = DEAD
  :: phase == LOADED && what == RECORDS_INCLUDED -> phase = SERVING
  :: phase == SERVING && what == RENEWAL_REFUSED -> phase = DRAINING
  :: phase == SERVING && what == SHUTDOWN_ASKED -> phase = DRAINING
  :: phase == DRAINING && what == RENEWAL_REFUSED -> phase = DRAINING
  :: phase == DRAINING && what == SHUTDOWN_ASKED -> phase = DRAINING
  :: phase == SERVING && what == LEASE_ENDED -> phase = DEAD
  :: phase == DRAINING && what == LEASE_ENDED -> phase = DEAD
  :: phase == DRAINING && what == DRAINED -> phase = DEAD
  :: phase == BOOT && what == FAILED -> phase = DEAD
  :: phase == MEASURED && what == FAILED -> phase = DEAD
  :: phase == LOGGED && what == FAILED -> phase = DEAD
  :: phase == KEYED && what == FAILED -> phase = DEAD
  :: phase == LOADED && what == FAILED -> phase = DEAD
  :: phase == SERVING && what == FAILED -> phase = DEAD
  :: phase == RESEALED && what == FAILED -> phase = DEAD
  :: phase == DRAINING && what == FAILED -> phase = DEAD
  /* end table: phases */
  :: else -> holds(TABLES, false)
  fi
}

inline move(event) {
  if
  /* begin table: gate */
  :: gate == WAITING && event == ALL_GRANTED -> gate = OPEN
  :: gate == WAITING && event == REFUSED -> gate = ENDED
  :: gate == WAITING && event == LOG_LEASE_ENDED -> gate = ENDED
  :: gate == OPEN && event == ALL_GRANTED -> gate = OPEN
  :: gate == OPEN && event == REFUSED -> gate = DRAINING
  :: gate == OPEN && event == LOG_LEASE_ENDED -> gate = DRAINING
  :: gate == DRAINING && event == REFUSED -> gate = DRAINING
  :: gate == DRAINING && event == LOG_LEASE_ENDED -> gate = DRAINING
  /* end table: gate */
  :: else -> gate = ENDED
  fi;
#ifdef HONEST
  holds(NO_DEADLOCK, gate == WAITING || gate == OPEN || revoked[KMS] || revoked[OWNER])
#endif
}

/* ---- The gate (enclave/keys/lease.py: advance) ---- */

inline expired(s) {
  if
  :: held[s] && left[s] <= 0 && gate != ENDED -> move(DEADLINE)
  :: else
  fi
}

inline advance() {
#ifdef CLOCKS
  if
  :: unread < 0 && gate != ENDED -> disagreed = true; move(CLOCK_DOUBT)
  :: else
  fi;
  unread = 0;
#endif
  expired(KMS);
  expired(OWNER);
#ifdef LOG
  if
  :: log_held && log_left <= 0 && (gate == WAITING || gate == OPEN) -> move(LOG_LEASE_ENDED)
  :: else
  fi
#endif
}

#define most(s) (s == KMS -> KMS_REQUESTS : REQUESTS)
#ifdef NO_RETRY
bool given_up[2];
#define may_ask(s) (!given_up[s] && asks_again(s))
#else
#define may_ask(s) asks_again(s)
#endif
#define asks_again(s) (number[s] < most(s) && !asking[s] && (gate == WAITING || gate == OPEN) && \
  ((phase == LOGGED && number[s] == 0 && (s == KMS || share[KMS]) && !asking[KMS]) || \
   phase == KEYED || phase == LOADED || phase == SERVING || phase == DRAINING))

#ifdef HONEST
/* Renewed when a third has passed (RENEW_AFTER), asked again at once while the parent's losses last. */
#define due(s) (may_ask(s) && (!held[s] || left[s] <= TTL - TTL / 3))
#define over(s) (held[s] && left[s] <= TTL - TTL / 3 && number[s] == most(s) && !asking[s])
#else
/* Whenever it likes: more often than the code, and not at all where the code would be late. */
#define due(s) may_ask(s)
#endif

/* One step: the number is drawn, the document is made and read, and the request is sent. Between the three the code lets
 * time pass, which brings the deadline no later: it counts from the last of them.
 * A document is a reading of the module's clock (enclave/keys/clock.py); the request goes out after it. */
inline ask(s, c) {
  advance();
  if
  :: gate == WAITING || gate == OPEN ->
    number[s]++;
#if defined(CLOCKS)
    if
    :: skew > TOLERANCE || skew < -TOLERANCE ->
      disagreed = true;
#ifndef NO_CLOCK_DOUBT
      move(CLOCK_DOUBT)
#endif
    :: else
    fi;
    skew = 0;
    if
    :: gate == ENDED
    :: else
#else
    if
    :: true
#endif
    ->
      asking[s] = true;
      age[s] = 0;
      sent[cell(s, boot, number[s])] = true;
      challenge_of[cell(s, boot, number[s])] = c;
      made_in[cell(s, boot, number[s])] = life
    fi
  :: else
  fi
}

/* ---- Answers (enclave/keys/owner.py 4 and 5, enclave/keys/kms.py 3 and 4, enclave/keys/lease.py: granted) ---- */

/* The one-time key and the secret that proves itself bind an answer of the KMS. */
#ifdef NO_ONE_TIME_KEY
#define kms_answers(b, n) (b == boot)
#else
#define kms_answers(b, n) (b == boot && n == number[KMS])
#endif
/* The lease of the owner names boot, request number and the digest of the statement, which holds the challenge. Its
 * one-time key would make every statement another one by itself: it is left out, so that each rule stands alone. */
#ifdef NO_BOOT_ID
#define same_boot(b) true
#else
#define same_boot(b) (b == boot)
#endif
#ifdef NO_REQUEST_NUMBER
#define same_number(n) true
#else
#define same_number(n) (n == number[OWNER])
#endif
#define same_ask(n) ((n == 1) == (number[OWNER] == 1))
#define same_challenge(b, n) (challenge_of[cell(OWNER, b, n)] == challenge_of[cell(OWNER, boot, number[OWNER])])
#define owner_answers(b, n) (same_boot(b) && same_number(n) && same_ask(n) && same_challenge(b, n))

inline take_lease(s) {
  held[s] = true;
#ifdef DEADLINE_FROM_ARRIVAL
  left[s] = TTL;
#else
  left[s] = TTL - age[s];
#endif
  share[s] = true;
  if
  :: held[KMS] && held[OWNER] -> move(ALL_GRANTED)
  :: else
  fi;
  advance()
}

inline accept(s, b, n) {
  advance();
  if
  :: !asking[s]
  :: asking[s] && ((s == KMS && kms_answers(b, n)) || (s == OWNER && owner_answers(b, n))) ->
    holds(OWN_RENEWAL, b == boot && n == number[s] && granted[cell(s, b, n)]);
    asking[s] = false;
    if
    :: gate == WAITING || gate == OPEN -> take_lease(s)
    :: else
    fi;
    age[s] = 0
  :: else -> asking[s] = false; age[s] = 0; move(REFUSED)
  fi
}

inline unavailable(s) {
  asking[s] = false;
  age[s] = 0;
  denied[s] = 0;
#ifdef NO_RETRY
  given_up[s] = true;
#endif
  if
  :: phase == LOGGED -> end_boot()     /* the key is asked for once: the boot fails */
  :: else
  fi
}

inline refuse(s) {
  advance();
  asking[s] = false;
  age[s] = 0;
  denied[s] = 0;
  move(REFUSED);
  if
  :: phase == LOGGED -> end_boot()
  :: else
  fi
}

/* ---- The end (enclave/life.py) ---- */

inline wipe() {
  gate = ENDED;
  stream = false;
  asking[KMS] = false; asking[OWNER] = false;
  denied[KMS] = 0; denied[OWNER] = 0;
  age[KMS] = 0; age[OWNER] = 0;
  held[KMS] = false; held[OWNER] = false;
  left[KMS] = 0; left[OWNER] = 0;
  share[KMS] = false; share[OWNER] = false;
#ifdef LOG
  beat = 0; beat_age = 0;
  log_held = false; log_left = 0;
  log_seen = false; log_age = 0;
  kept[KMS] = false; kept[OWNER] = false;
  proved[KMS] = false; proved[OWNER] = false;
#endif
#ifdef CLOCKS
  skew = 0; unread = 0; disagreed = false;
#endif
}

inline end_boot() {
  wipe();
  if
  :: phase == DRAINING -> take(DRAINED)
  :: phase == SERVING -> take(LEASE_ENDED)
  :: else -> take(FAILED)
  fi
}

inline next_boot() {
  boot++;
  phase = BOOT;
  gate = WAITING;
  number[KMS] = 0; number[OWNER] = 0
#ifdef SHOW
  ; token = false
#endif
}

#ifdef HONEST
#define run_over (finished || (phase == DEAD && boot + 1 == BOOTS))
#else
#define run_over (phase == DEAD && boot + 1 == BOOTS)
#endif
#define serves (phase == SERVING || phase == DRAINING)
#ifdef LOG
#ifdef NO_BARRIER
#define records_proved true
#else
#define records_proved (proved[KMS] && proved[OWNER])
#endif
#ifdef NO_LOG_LEASE
#define log_leased true
#else
#define log_leased log_held
#endif
#else
#define records_proved true
#define log_leased true
#endif
#ifdef ONE_SHARE
#define shares_here (share[KMS] || share[OWNER])
#else
#define shares_here (share[KMS] && share[OWNER])
#endif

active proctype Enclave() {
  mtype what;
  byte s, b, n;
  do
  :: run_over -> break
  /* Boot: enclave/boot.py, then Life._run. */
  :: atomic { phase == BOOT -> take(CONFIGURATION_LOCKED) }
  :: atomic { phase == MEASURED -> take(GENESIS_INCLUDED) }
  :: d_step { phase == LOGGED && shares_here && gate != ENDED ->
       holds(BOTH_SHARES, granted[cell(KMS, boot, 1)] && granted[cell(OWNER, boot, 1)]);
       take(KEY_PROVED) }
  :: d_step { phase == KEYED && gate != ENDED -> take(MODEL_LOADED) }
  :: d_step { phase == LOADED && records_proved && log_leased && gate != ENDED ->
#ifdef LOG
       holds(LOGGED_RELEASE, kept[KMS] && kept[OWNER]);
#endif
       take(RECORDS_INCLUDED) }
  /* Requests: enclave/keys/keeper.py. Which challenge it gets is the parent's choice. */
  :: d_step { due(KMS) -> ask(KMS, 0) }
#ifdef NO_CHALLENGE
  :: d_step { due(OWNER) -> ask(OWNER, 0) }
#else
  :: d_step { due(OWNER) && new_challenge <= CHALLENGES -> given = new_challenge; ask(OWNER, given) }
#ifndef HONEST
  :: d_step { due(OWNER) && given >= 1 -> ask(OWNER, 1) }
#if CHALLENGES > 1
  :: d_step { due(OWNER) && given >= 2 -> ask(OWNER, 2) }
#endif
#if CHALLENGES > 3
  :: d_step { due(OWNER) && given >= 3 -> ask(OWNER, given) }
#endif
#if RESTARTS > 0
  /* Drawn before the restart, and not handed over until now. */
  :: d_step { due(OWNER) && life > 0 && given < IN_A_LIFE -> given++; ask(OWNER, given) }
#endif
#endif
#endif
  :: atomic { to_enclave ? what, s, b, n -> d_step {
       if
       :: what == GRANT && s == KMS -> accept(KMS, b, n)
       :: what == GRANT && s == OWNER -> accept(OWNER, b, n)
       :: what == REFUSAL -> refuse(s)
       :: what == NOTHING -> unavailable(s)
       fi;
       what = 0; s = 0; b = 0; n = 0 } }
  /* Service: enclave/serve. A pass of the gate is the token; the record it lets through may be one token late. */
#ifndef HONEST
  :: d_step { serves && !stream -> advance();
       if
       :: gate == OPEN && log_leased ->
         stream = true
#ifdef LOG
         ; holds(LOG_LEASE, log_seen && log_age < LOG_TTL + lost)
#endif
       :: else
       fi }
  :: d_step { serves && stream ->
#ifndef NO_CHECK_BEFORE_TOKEN
       advance();
#endif
       if
       :: gate == OPEN || gate == DRAINING ->
         holds(SILENCE, (!revoked[KMS] || since[KMS] < TTL + lost) && (!revoked[OWNER] || since[OWNER] < TTL + lost))
#ifdef CLOCKS
         ; holds(CLOCK_CUT, !disagreed)
#endif
#ifdef SHOW
         ; token = true;
         late_token = late_token || revoked[KMS] || revoked[OWNER];
         drain_token = drain_token || gate == DRAINING
#endif
       :: else
       fi }
  :: d_step { stream -> stream = false }
  :: d_step { phase == SERVING -> take(SHUTDOWN_ASKED) }
  :: d_step { phase != DEAD && gate != ENDED -> move(FAULT) }
#endif
  /* Waiting and ending: Gate.wait_end, Life._drain_when_asked, Life._end. */
  :: d_step { phase != DEAD && gate != ENDED -> advance() }
  :: d_step { phase == SERVING && gate == DRAINING -> take(RENEWAL_REFUSED) }
  :: d_step { phase == DRAINING && !stream && gate != ENDED -> move(CLOSED) }
  :: d_step { phase != DEAD && gate == ENDED -> end_boot() }
  :: d_step { phase == DEAD && boot + 1 < BOOTS -> next_boot() }
#ifdef HONEST
  :: d_step { over(KMS) || over(OWNER) -> finished = true; wipe() }
#endif
#ifdef SHOW
  :: d_step { shown -> holds(REACHED, false) }
#endif
  od
}

/* ---- The authorities (authority/owner/release.py 1, 5, 6; the KMS face) ---- */

#ifdef NO_CHALLENGE
#define challenge_holds(b, n) true
#define challenge_unused(b, n) true
#else
/* Expiry is by the authority's clock, which may stand anywhere: an expired challenge is a request not delivered. */
#define challenge_holds(b, n) (life_of(challenge_of[cell(OWNER, b, n)]) == life)
#define challenge_unused(b, n) (!used[challenge_of[cell(OWNER, b, n)]])
#endif
#if defined(NO_REQUEST_NUMBER) || defined(NO_NUMBER_ORDER)
#define number_over_last(b, n) true
#else
#define number_over_last(b, n) (n > last[b])
#endif
#ifdef RENEWS_REVOKED
#define allowed(s, n) (!revoked[s] || n > 1)
#else
#define allowed(s, n) (!revoked[s])
#endif

inline owner_decides(b, n) {
  if
  :: !challenge_holds(b, n) -> deny(OWNER, b, n, 2)
  :: else ->
    if
    :: challenge_unused(b, n) && number_over_last(b, n) && allowed(OWNER, n) ->
      holds(FRESH_CHALLENGE, made_in[cell(OWNER, b, n)] == life);
      holds(GRANTED_ONCE, !granted[cell(OWNER, b, n)]);
      granted[cell(OWNER, b, n)] = true;
      last[b] = n
    :: else -> deny(OWNER, b, n, 1)
    fi;
    used[challenge_of[cell(OWNER, b, n)]] = true
  fi
}

inline deny(s, b, n, why) {
#ifdef HONEST
  if
  :: b == boot && n == number[s] && asking[s] && !granted[cell(s, b, n)] -> denied[s] = why
  :: else
  fi
#else
  skip
#endif
}

/* One revokes in a run: that the other does too is, for the enclave, a parent that brings it nothing. */
#define may_revoke (!revoked[KMS] && !revoked[OWNER])

active proctype Kms() {
  byte b, n;
  do
  :: run_over -> break
  /* No challenge and no memory: whatever genuine request comes is decided, as often as it comes. */
  :: atomic { to_authority[KMS] ? b, n -> d_step {
       if
       :: allowed(KMS, n) -> granted[cell(KMS, b, n)] = true
       :: else -> deny(KMS, b, n, 1)
       fi;
       b = 0; n = 0 } }
  :: d_step { may_revoke -> revoked[KMS] = true }
  od
}

active proctype Owner() {
  byte b, n;
  do
  :: run_over -> break
  :: atomic { to_authority[OWNER] ? b, n -> d_step { owner_decides(b, n); b = 0; n = 0 } }
  :: d_step { may_revoke -> revoked[OWNER] = true }
  :: d_step { life < RESTARTS -> life++ }
#ifdef CLOCKS
  /* Its clock went past an expiry, which empties the memory of used challenges, and came back. */
  :: d_step { used[1] -> used[1] = false }
#if CHALLENGES > 1
  :: d_step { used[2] -> used[2] = false }
#endif
#endif
  od
}

/* ---- The parent ---- */

#define brings(s, b, n) atomic { useful(s, b, n) && sent[cell(s, b, n)] -> to_authority[s] ! b, n }
#define answers_with(s, b, n) atomic { asking[s] && granted[cell(s, b, n)] -> to_enclave ! GRANT, s, b, n }
#define says(what, s) atomic { asking[s] -> to_enclave ! what, s, boot, number[s] }
#ifdef HONEST
#define useful(s, b, n) (asking[s] && denied[s] == 0 && !granted[cell(s, b, n)])
#ifdef CHALLENGE_IS_FINAL
#define challenge_final true
#else
#define challenge_final false
#endif
#define loses (losses < LOSSES && phase != LOGGED)
#else
#define useful(s, b, n) (!run_over)
#endif

active proctype Parent() {
  do
  :: run_over -> break
#ifdef HONEST
  :: brings(KMS, boot, number[KMS])
  :: brings(OWNER, boot, number[OWNER])
  :: answers_with(KMS, boot, number[KMS])
  :: answers_with(OWNER, boot, number[OWNER])
  :: atomic { denied[KMS] != 0 -> to_enclave ! REFUSAL, KMS, boot, number[KMS] }
  :: atomic { denied[OWNER] != 0 -> to_enclave ! (denied[OWNER] == 1 || challenge_final -> REFUSAL : NOTHING), OWNER, boot,
       number[OWNER] }
  :: atomic { loses && asking[KMS] -> losses++; to_enclave ! NOTHING, KMS, boot, number[KMS] }
  :: atomic { loses && asking[OWNER] -> losses++; to_enclave ! NOTHING, OWNER, boot, number[OWNER] }
#else
  :: brings(KMS, 0, 1)
  :: brings(OWNER, 0, 1)
#if REQUESTS > 1
  :: brings(KMS, 0, 2)
  :: brings(OWNER, 0, 2)
#endif
#if REQUESTS > 2
  :: brings(KMS, 0, 3)
  :: brings(OWNER, 0, 3)
#endif
#if BOOTS > 1
  :: brings(KMS, 1, 1)
  :: brings(OWNER, 1, 1)
#if REQUESTS > 1
  :: brings(KMS, 1, 2)
  :: brings(OWNER, 1, 2)
#endif
#endif
  :: answers_with(KMS, 0, 1)
  :: answers_with(OWNER, 0, 1)
#if REQUESTS > 1
  :: answers_with(KMS, 0, 2)
  :: answers_with(OWNER, 0, 2)
#endif
#if REQUESTS > 2
  :: answers_with(KMS, 0, 3)
  :: answers_with(OWNER, 0, 3)
#endif
#if BOOTS > 1
  :: answers_with(KMS, 1, 1)
  :: answers_with(OWNER, 1, 1)
#if REQUESTS > 1
  :: answers_with(KMS, 1, 2)
  :: answers_with(OWNER, 1, 2)
#endif
#endif
  /* TLS would not let it: it invents refusals and cuts as it likes. */
  :: says(REFUSAL, KMS)
  :: says(REFUSAL, OWNER)
  :: says(NOTHING, KMS)
  :: says(NOTHING, OWNER)
#if BOOTS > 1
  :: d_step { phase != DEAD -> end_boot() }
#endif
  /* What it cannot do, unless the rule that forbids it is taken out. */
#ifdef NO_CHECK_VALUE
  :: says(GRANT, KMS)
#endif
#ifdef NO_LEASE_SIGNATURE
  :: says(GRANT, OWNER)
#endif
#endif
  od
}

/* ---- The log ---- */

#ifdef LOG
#define beat_wanted ((phase == LOADED || serves) && (gate == OPEN || gate == WAITING))
#ifdef HONEST
#define beat_due (beat_wanted && (!log_held || log_left <= LOG_TTL - LOG_TTL / 3))
#else
#define beat_due beat_wanted
#endif
active proctype Log() {
  do
  :: run_over -> break
  :: d_step { share[KMS] && !kept[KMS] -> kept[KMS] = true }
  :: d_step { share[OWNER] && !kept[OWNER] -> kept[OWNER] = true }
  :: d_step { kept[KMS] && !proved[KMS] -> proved[KMS] = true }
  :: d_step { kept[OWNER] && !proved[OWNER] -> proved[OWNER] = true }
  /* enclave/serve/scribe.py: renew. The time counts from the making of the heartbeat. */
  :: d_step { beat == 0 && beat_due -> beat = 1; beat_age = 0 }
  :: d_step { beat == 1 -> beat = 2; log_seen = true; log_age = beat_age }
  :: d_step { beat == 2 -> beat = 0;
       advance();
       log_held = true;
#ifdef LOG_LEASE_FROM_ARRIVAL
       log_left = LOG_TTL;
#else
       log_left = LOG_TTL - beat_age;
#endif
       beat_age = 0 }
#ifndef HONEST
  :: d_step { beat != 0 -> beat = 0; beat_age = 0 }
#endif
  od
}
#define log_older \
  if :: beat != 0 && beat_age < LOG_TTL + LOST -> beat_age++ :: else fi; \
  if :: log_held && log_left > -LOST -> log_left-- :: else fi
#define log_true_older if :: log_seen && log_age < LOG_TTL + LOST -> log_age++ :: else fi
#define log_back \
  if :: beat_age > 0 -> beat_age-- :: else fi; \
  if :: log_held -> log_left++ :: else fi
#else
#define log_older skip
#define log_true_older skip
#define log_back skip
#endif

/* ---- Time ---- */

inline older(s) {
  if
  :: asking[s] && age[s] < TTL + LOST -> age[s]++
  :: else
  fi;
  if
  :: held[s] && left[s] > -LOST -> left[s]--
  :: else
  fi
}

inline longer_ago(s) {
  if
  :: revoked[s] && since[s] < TTL + LOST -> since[s]++
  :: else
  fi
}

inline boot_clock_ticks() {
  older(KMS);
  older(OWNER);
  log_older;
#ifdef CLOCKS
  if
  :: unread < LOST -> unread++
  :: else
  fi
#endif
}

inline time_passes() {
  longer_ago(KMS);
  longer_ago(OWNER);
  log_true_older
}

inline boot_clock_back(s) {
  if
  :: asking[s] && age[s] > 0 -> age[s]--
  :: else
  fi;
  if
  :: held[s] -> left[s]++
  :: else
  fi
}

#ifdef HONEST
#ifdef LOG
#define log_busy (beat != 0 || beat_due || (phase != LOGGED && (!proved[KMS] || !proved[OWNER])))
#else
#define log_busy false
#endif
#define idle (phase == SERVING && gate == OPEN && !over(KMS) && !over(OWNER) && !due(KMS) && !due(OWNER) && !asking[KMS] && !asking[OWNER] && !log_busy)
#define late (phase != LOGGED && gate == OPEN && !over(KMS) && !over(OWNER) && losses < LOSSES && (asking[KMS] || asking[OWNER] || log_busy))
#endif

active proctype Time() {
  do
  :: run_over -> break
#ifdef HONEST
  :: d_step { idle -> boot_clock_ticks(); time_passes(); advance() }
  :: d_step { late -> losses++; boot_clock_ticks(); time_passes(); advance() }
#else
  :: d_step { true -> boot_clock_ticks(); time_passes() }
#ifdef CLOCKS
  /* Drift, pauses and steps: the boot clock stands still, runs ahead, or goes back. */
  :: d_step { lost < LOST -> lost++; skew = (skew < TOLERANCE + 1 -> skew + 1 : skew); time_passes() }
  :: d_step { skew = (skew > -TOLERANCE - 1 -> skew - 1 : skew); boot_clock_ticks() }
  :: d_step { lost < LOST -> lost++; skew = (skew < TOLERANCE + 1 -> skew + 1 : skew); unread--;
       boot_clock_back(KMS); boot_clock_back(OWNER); log_back }
#endif
#endif
  od
}
