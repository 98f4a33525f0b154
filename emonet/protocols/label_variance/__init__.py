"""Label variance: what raters say as a distribution, rules of consensus, and heads that are trained on both."""
