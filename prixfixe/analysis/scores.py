"""The scores that runs are compared by: their names in files, and what readers see. Nothing else is imported here."""

SCORES = {
    "pearson_r": "Pearson r",
    "spearman_rho": "Spearman rho",
    "kl": "KL",
    "mse": "MSE",
    "pearson_score": "Pearson score",
    "spearman_score": "Spearman score",
}
LOWER_IS_BETTER = {"kl", "mse"}
