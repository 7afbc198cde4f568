"""What `--tier` and `--padding` come to together."""

from anchorhold.attestation.channel.padding import Padding
from anchorhold.cli.main import CommandError
from anchorhold.client.trust import Trust


def padding_of(trust: Trust, padding: str | None, tier: str | None) -> Padding:
    """The profile asked for; without one, basic or what the tier asks for beyond it. Raises CommandError."""
    if tier is not None and tier not in trust.tiers:
        raise CommandError(f"--tier: expected {' or '.join(sorted(trust.tiers))}, got {tier!r:.80}")
    if padding is not None:
        return Padding(padding)
    strict = tier is not None and trust.tiers[tier].padding is Padding.STRICT
    return Padding.STRICT if strict else Padding.BASIC
