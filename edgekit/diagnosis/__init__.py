"""Why a deployed model is slow, or wrong: findings, each measured by what goes away with its cause."""
