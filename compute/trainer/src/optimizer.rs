use deepmarket_job::{Decimal, Optimizer};

/// A decimal as the nearest float.
pub(crate) fn float(decimal: Decimal) -> f64 {
    decimal.nanos() as f64 / 1e9
}

/// What an optimizer remembers between steps: flat vectors as long as the parameters (or empty), in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OptimizerState {
    /// Steps done.
    pub(crate) steps: u64,
    /// Momentum, or Adam's mean.
    pub(crate) first: Vec<f32>,
    /// Adam's mean square.
    pub(crate) second: Vec<f32>,
}

impl OptimizerState {
    pub(crate) fn new(optimizer: &Optimizer, parameters: usize) -> Self {
        let length = |used: bool| if used { parameters } else { 0 };
        let (first, second) = match optimizer {
            Optimizer::Sgd { momentum, .. } => (*momentum != Decimal::ZERO, false),
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => (true, true),
        };
        OptimizerState { steps: 0, first: vec![0.0; length(first)], second: vec![0.0; length(second)] }
    }

    /// One step on flat vectors: PyTorch's formulas, elementwise and in order, so that the same inputs give the same bits.
    pub(crate) fn step(&mut self, optimizer: &Optimizer, lr: Decimal, parameters: &mut [f32], gradients: &[f32]) {
        self.steps += 1;
        match *optimizer {
            Optimizer::Sgd { momentum, weight_decay, nesterov, .. } => {
                self.sgd(float(lr) as f32, float(momentum) as f32, float(weight_decay) as f32, nesterov, parameters, gradients);
            }
            Optimizer::Adam { beta1, beta2, epsilon, weight_decay, .. } => {
                let decay = float(weight_decay) as f32;
                self.adam(float(lr), float(beta1), float(beta2), float(epsilon) as f32, decay, parameters, gradients);
            }
            Optimizer::AdamW { beta1, beta2, epsilon, weight_decay, .. } => {
                let kept = 1.0 - (float(lr) * float(weight_decay)) as f32;
                parameters.iter_mut().for_each(|parameter| *parameter *= kept);
                self.adam(float(lr), float(beta1), float(beta2), float(epsilon) as f32, 0.0, parameters, gradients);
            }
        }
    }

    fn sgd(&mut self, lr: f32, momentum: f32, decay: f32, nesterov: bool, parameters: &mut [f32], gradients: &[f32]) {
        if self.first.is_empty() {
            for (parameter, gradient) in parameters.iter_mut().zip(gradients) {
                *parameter -= lr * (gradient + decay * *parameter);
            }
            return;
        }
        let first_step = self.steps == 1;
        for ((parameter, gradient), velocity) in parameters.iter_mut().zip(gradients).zip(&mut self.first) {
            let gradient = gradient + decay * *parameter;
            *velocity = if first_step { gradient } else { momentum * *velocity + gradient };
            let direction = if nesterov { gradient + momentum * *velocity } else { *velocity };
            *parameter -= lr * direction;
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn adam(&mut self, lr: f64, beta1: f64, beta2: f64, epsilon: f32, decay: f32, parameters: &mut [f32], gradients: &[f32]) {
        let step_size = (lr / (1.0 - power(beta1, self.steps))) as f32;
        let root_correction = (1.0 - power(beta2, self.steps)).sqrt() as f32;
        let (b1, b2, rest1, rest2) = (beta1 as f32, beta2 as f32, (1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, gradient), (mean, square)) in parameters.iter_mut().zip(gradients).zip(moments) {
            let gradient = gradient + decay * *parameter;
            *mean = b1 * *mean + rest1 * gradient;
            *square = b2 * *square + rest2 * (gradient * gradient);
            *parameter -= step_size * *mean / (square.sqrt() / root_correction + epsilon);
        }
    }
}

/// `base` to an integer power by squaring: multiplications only, so that it is the same on every machine.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    /// Two steps from p = 1 with gradients 0.5 and -0.25 at lr = 0.1.
    fn two_steps(optimizer: Optimizer) -> f32 {
        let mut state = OptimizerState::new(&optimizer, 1);
        let mut parameters = [1.0];
        state.step(&optimizer, decimal("0.1"), &mut parameters, &[0.5]);
        state.step(&optimizer, decimal("0.1"), &mut parameters, &[-0.25]);
        parameters[0]
    }

    #[test]
    fn optimizers_follow_their_formulas() {
        let lr = decimal("0.1");
        let sgd = |momentum, nesterov| Optimizer::Sgd { lr, momentum: decimal(momentum), weight_decay: Decimal::ZERO, nesterov };
        assert!((two_steps(sgd("0", false)) - 0.975).abs() < 1e-6);
        // velocities 0.5 and 0.2
        assert!((two_steps(sgd("0.9", false)) - (1.0 - 0.05 - 0.02)).abs() < 1e-6);
        // directions 0.5 + 0.45 and -0.25 + 0.18
        assert!((two_steps(sgd("0.9", true)) - (1.0 - 0.095 + 0.007)).abs() < 1e-6);
        let (beta1, beta2, epsilon) = (decimal("0.9"), decimal("0.999"), decimal("1e-8"));
        // step 1: 0.1; step 2: mean 0.02/0.19, mean square 3.12e-4/1.999e-3
        let second = 0.1 * (0.02 / 0.19) / (0.000_312_25_f32 / 0.001_999).sqrt();
        let adam = Optimizer::Adam { lr, beta1, beta2, epsilon, weight_decay: Decimal::ZERO };
        assert!((two_steps(adam) - (0.9 - second)).abs() < 1e-5);
        let adamw = Optimizer::AdamW { lr, beta1, beta2, epsilon, weight_decay: decimal("0.5") };
        assert!((two_steps(adamw) - ((0.95 - 0.1) * 0.95 - second)).abs() < 1e-5);
    }
}
