(* The master theorem, for any regularizers: Y finite with at least two responses, phi_y differentiable on (0, 1) with a
   continuous and strictly increasing derivative d_y (see Convex.v: phi_y is strictly convex) that falls to -infinity at 0, and
   phi_y continuous at 1.  Then E_p[r] - sum_y phi_y(p_y) has exactly one maximizer over the policies where it is
   finite; it is interior, and r = s + lambda there with s_y = d_y(pi_y).  Conversely every interior policy is optimal
   for the reward r = s.  A phi_y may be infinite at 0 (forward KL): then no policy with p_y = 0 is a competitor. *)
Require Import Reals Lra List Rsqrt_def Ranalysis5 Sums Preferences Inverse.
Import ListNotations.
Open Scope R_scope.

(* ---- the regularized problem ---- *)
Section Master.
Variable A : Type.
Variable Y : list A.
Hypothesis two : (2 <= length Y)%nat.
Variables phi d : A -> R -> R.
Variable finite_at_0 : A -> Prop.  (* phi_y(0) is finite: a competitor may leave y out *)
Hypothesis slope : forall y t, 0 < t < 1 -> derivable_pt_lim (phi y) t (d y t).
Hypothesis convex : forall y a b, 0 < a -> a < b -> b < 1 -> d y a < d y b.
Hypothesis slope_continuous : forall y t, 0 < t < 1 -> continuity_pt (d y) t.
Hypothesis barrier : forall y M, exists t, 0 < t < 1 /\ d y t < M.
Hypothesis continuous_at_1 : forall y, continuity_pt (phi y) 1.
Hypothesis continuous_at_0 : forall y, finite_at_0 y -> continuity_pt (phi y) 0.

Definition competitor (p : A -> R) := policy Y p /\ forall y, In y Y -> p y = 0 -> finite_at_0 y.
Definition interior (p : A -> R) := policy Y p /\ forall y, In y Y -> 0 < p y < 1.
Definition J (r p : A -> R) := sum (fun y => p y * r y - phi y (p y)) Y.

Lemma phi_continuous y t : 0 <= t <= 1 -> (t = 0 -> finite_at_0 y) -> continuity_pt (phi y) t.
Proof.
  intros [[P|<-] [Q|E]] F.
  - apply derivable_continuous_pt. exists (d y t). now apply slope.
  - subst. apply continuous_at_1.
  - apply continuous_at_0. now apply F.
  - lra.
Qed.

(* The mean value theorem in the form that is needed: strictly inside there is a point with the slope of the chord. *)
Lemma chord y a b : 0 <= a -> a < b -> b <= 1 -> (a = 0 -> finite_at_0 y) ->
  exists c, a < c < b /\ phi y b - phi y a = d y c * (b - a).
Proof.
  intros Ha L Hb F.
  assert (pr1 : forall c, a < c < b -> derivable_pt (phi y) c) by (intros c Hc; exists (d y c); apply slope; lra).
  assert (pr2 : forall c, a < c < b -> derivable_pt id c) by (intros; apply derivable_pt_id).
  destruct (MVT (phi y) id a b pr1 pr2 L) as (c & Hc & E).
  - intros c Hc. apply phi_continuous; [lra|]. intros. apply F. lra.
  - intros c Hc. apply derivable_continuous_pt, derivable_pt_id.
  - exists c. split; [exact Hc|].
    assert (S : derive_pt (phi y) c (pr1 c Hc) = d y c) by (apply derive_pt_eq_0, slope; lra).
    assert (I : derive_pt id c (pr2 c Hc) = 1) by (apply derive_pt_eq_0, derivable_pt_lim_id).
    rewrite S, I in E. unfold id in E. lra.
Qed.

(* A strictly convex function lies above its tangents, and touches them once. *)
Definition excess y t x := phi y x - phi y t - d y t * (x - t).

Lemma above_tangent y t x : 0 < t < 1 -> 0 <= x <= 1 -> (x = 0 -> finite_at_0 y) -> x <> t -> 0 < excess y t x.
Proof.
  intros Ht Hx F N. unfold excess. destruct (Rtotal_order x t) as [L|[E|G]]; [|tauto|].
  - destruct (chord y x t) as (c & Hc & E); try lra; [exact F|].
    pose proof (convex y c t ltac:(lra) ltac:(lra) ltac:(lra)).
    assert (d y c * (t - x) < d y t * (t - x)) by (apply Rmult_lt_compat_r; lra). lra.
  - destruct (chord y t x) as (c & Hc & E); try lra.
    pose proof (convex y t c ltac:(lra) ltac:(lra) ltac:(lra)).
    assert (d y t * (x - t) < d y c * (x - t)) by (apply Rmult_lt_compat_r; lra). lra.
Qed.

Lemma excess_nonneg y t x : 0 < t < 1 -> 0 <= x <= 1 -> (x = 0 -> finite_at_0 y) -> 0 <= excess y t x.
Proof.
  intros Ht Hx F. destruct (Req_dec x t) as [->|N]; [unfold excess; lra|]. left. now apply above_tangent.
Qed.

Lemma competitor_range p y : competitor p -> In y Y -> 0 <= p y <= 1.
Proof.
  intros [[P S] _] Hy. split; [auto|]. rewrite <- S. now apply (sum_bounds A p Y y).
Qed.

(* ---- a stationary policy is the one maximizer ---- *)
Lemma gap r pi lam p : interior pi -> competitor p -> (forall y, In y Y -> r y = d y (pi y) + lam) ->
  J r pi - J r p = sum (fun y => excess y (pi y) (p y)) Y.
Proof.
  intros [[_ S1] _] [[_ S2] _] H. unfold J.
  assert (E : sum (fun y => lam * pi y) Y + -1 * sum (fun y => lam * p y) Y = 0) by (rewrite !sum_mult, S1, S2; lra).
  enough (sum (fun y => pi y * r y - phi y (pi y)) Y + -1 * sum (fun y => p y * r y - phi y (p y)) Y
          = sum (fun y => excess y (pi y) (p y)) Y
            + (sum (fun y => lam * pi y) Y + -1 * sum (fun y => lam * p y) Y)) by lra.
  rewrite <- !sum_mult, <- !sum_plus. apply sum_ext. intros y Hy. rewrite (H y Hy). unfold excess. ring.
Qed.

Theorem stationary_is_optimal r pi lam : interior pi -> (forall y, In y Y -> r y = d y (pi y) + lam) ->
  forall p, competitor p -> J r p <= J r pi /\ (J r p = J r pi -> forall y, In y Y -> p y = pi y).
Proof.
  intros I H p C. pose proof (gap r pi lam p I C H) as G.
  assert (N : forall y, In y Y -> 0 <= excess y (pi y) (p y)).
  { intros y Hy. apply excess_nonneg; [now apply I|now apply competitor_range|]. intros. now apply C. }
  split; [pose proof (sum_nonneg A _ _ N); lra|].
  intros E y Hy. destruct (Req_dec (p y) (pi y)) as [Q|Q]; [exact Q|exfalso].
  assert (Z : excess y (pi y) (p y) = 0) by (apply (sum_zero A _ Y N); [lra|exact Hy]).
  assert (0 < excess y (pi y) (p y)); [|lra].
  apply above_tangent; auto; [now apply I|now apply competitor_range|]. intros. now apply C.
Qed.

(* ---- existence of the multiplier: intermediate value theorem over lambda, on slopes continued by lines ---- *)
Section Existence.
Variable r : A -> R.

(* One level that all slopes stay below near 0. *)
Lemma common_floor (M : A -> R) l : exists c, 0 < c <= 1 / 2 /\ forall y, In y l -> d y c <= M y.
Proof.
  induction l as [|y t (c & Hc & H)]; [exists (1 / 2); split; [lra|intros ? []]|].
  destruct (barrier y (M y)) as (x & Hx & L). exists (Rmin c x).
  assert (Rmin c x <= c) by apply Rmin_l. assert (Rmin c x <= x) by apply Rmin_r.
  assert (0 < Rmin c x) by (apply Rmin_pos; lra).
  split; [lra|]. intros z [<-|Hz].
  - destruct (Req_dec (Rmin c x) x) as [->|N]; [lra|]. pose proof (convex y (Rmin c x) x ltac:(lra) ltac:(lra) ltac:(lra)). lra.
  - specialize (H z Hz). destruct (Req_dec (Rmin c x) c) as [->|N]; [lra|].
    pose proof (convex z (Rmin c x) c ltac:(lra) ltac:(lra) ltac:(lra)). lra.
Qed.

Variable m : R.
Hypothesis m_range : 1 / 2 <= m < 1.

Definition line y t := if Rle_dec t m then d y t else d y m + (t - m).

Lemma line_increasing y a b : 0 < a -> a < b -> line y a < line y b.
Proof.
  intros Ha L. unfold line. destruct (Rle_dec a m), (Rle_dec b m); try lra.
  - apply convex; lra.
  - destruct (Req_dec a m) as [->|N]; [lra|]. pose proof (convex y a m ltac:(lra) ltac:(lra) ltac:(lra)). lra.
Qed.

Lemma line_onto y x : exists t, 0 < t /\ line y t = x.
Proof.
  destruct (Rlt_dec (d y m) x) as [G|G].
  { exists (m + (x - d y m)). split; [lra|]. unfold line. destruct (Rle_dec _ m); lra. }
  destruct (Req_dec (d y m) x) as [E|N].
  { exists m. split; [lra|]. unfold line. destruct (Rle_dec m m); lra. }
  destruct (barrier y x) as (a & Ha & La).
  assert (a < m).
  { apply Rnot_le_lt. intros [Q|Q]; [pose proof (convex y m a ltac:(lra) Q ltac:(lra)); lra|subst; lra]. }
  destruct (IVT_interv (fun t => d y t - x) a m) as (t & Ht & E); try lra.
  - intros t Ht. apply (continuity_pt_minus (d y) (fun _ => x)); [apply slope_continuous; lra|].
    apply continuity_pt_const. now intros ? ?.
  - exists t. split; [lra|]. unfold line. destruct (Rle_dec t m); lra.
Qed.

Definition share y x := inverse (line y) (line_increasing y) (line_onto y) x.
Definition mass l lam := sum (fun y => share y (r y - lam)) l.

Lemma share_positive y x : 0 < share y x.
Proof. apply inverse_spec. Qed.

Lemma mass_continuous l : continuity (mass l).
Proof.
  unfold mass. induction l as [|y t IH]; simpl; [apply continuity_const; now intros ? ?|].
  apply (continuity_plus (fun lam => share y (r y - lam))); [|exact IH].
  apply (continuity_comp (fun lam => r y - lam) (share y)); [|apply inverse_continuous].
  apply derivable_continuous.
  apply (derivable_minus (fun _ => r y) id); [apply derivable_const|apply derivable_id].
Qed.

Lemma mass_small l : forall eps, 0 < eps -> exists hi, forall lam, hi <= lam -> mass l lam < eps.
Proof.
  unfold mass. induction l as [|y t IH]; intros eps He; simpl; [exists 0; intros; lra|].
  destruct (IH (eps / 2)) as [hi H]; [lra|].
  exists (Rmax hi (r y - line y (eps / 2) + 1)). intros lam L.
  pose proof (Rmax_l hi (r y - line y (eps / 2) + 1)). pose proof (Rmax_r hi (r y - line y (eps / 2) + 1)).
  assert (share y (r y - lam) < eps / 2) by (apply inverse_less; lra).
  specialize (H lam ltac:(lra)). lra.
Qed.

Lemma multiplier : exists lam, mass Y lam = 1.
Proof.
  destruct (mass_small Y 1) as [hi H]; [lra|].
  assert (exists y t, Y = y :: t) as (y & t & E) by (destruct Y; [simpl in two; inversion two|eauto]).
  set (lo := Rmin (r y - line y 2 - 1) (hi - 1)).
  pose proof (Rmin_l (r y - line y 2 - 1) (hi - 1)). pose proof (Rmin_r (r y - line y 2 - 1) (hi - 1)).
  fold lo in H0, H1.
  assert (1 < mass Y lo).
  { rewrite E. unfold mass. simpl.
    assert (0 <= sum (fun z => share z (r z - lo)) t) by (apply sum_nonneg; intros; left; apply share_positive).
    assert (2 < share y (r y - lo)) by (apply inverse_more; lra). lra. }
  destruct (IVT (fun lam => 1 - mass Y lam) lo hi) as (lam & _ & Z).
  - apply (continuity_minus (fun _ => 1) (mass Y)); [apply continuity_const; now intros ? ?|apply mass_continuous].
  - lra.
  - lra.
  - specialize (H hi (Rle_refl _)). lra.
  - exists lam. lra.
Qed.
End Existence.

(* Near 0 the slopes are so low that no response can take more than 1 - c, so the continued part is never reached. *)
Theorem stationary_exists r : exists pi lam, interior pi /\ forall y, In y Y -> r y = d y (pi y) + lam.
Proof.
  assert (exists T, forall y, In y Y -> r y - d y (1 / 2) <= T) as [T HT].
  { generalize Y. intros l. induction l as [|y t [T H]]; [exists 0; intros ? []|].
    exists (Rmax T (r y - d y (1 / 2))). intros z [<-|Hz]; [apply Rmax_r|].
    apply Rle_trans with T; [auto|apply Rmax_l]. }
  destruct (common_floor (fun y => r y - T - 1) Y) as (c & Hc & Floor).
  assert (Hm : 1 / 2 <= 1 - c < 1) by lra.
  destruct (multiplier r (1 - c) Hm) as [lam E].
  set (pi := fun y => share (1 - c) Hm y (r y - lam)).
  assert (Pos : forall y, 0 < pi y) by (intros; apply share_positive).
  assert (Sol : forall y, line (1 - c) y (pi y) = r y - lam) by (intros; unfold pi, share; apply inverse_spec).
  assert (Small : forall y, In y Y -> pi y <= 1 - c).
  { intros y Hy. apply Rnot_lt_le. intros G.
    assert (lam < T).  (* a large share means a small multiplier ... *)
    { pose proof (line_increasing (1 - c) Hm y (1 / 2) (pi y) ltac:(lra) ltac:(lra)) as L.
      rewrite Sol in L. unfold line in L. destruct (Rle_dec (1 / 2) (1 - c)); [|lra]. specialize (HT y Hy). lra. }
    assert (Floor' : forall z, In z Y -> c < pi z).  (* ... and that leaves every other response more than c *)
    { intros z Hz. apply inverse_more; [lra|]. unfold line. destruct (Rle_dec c (1 - c)); [|lra].
      specialize (Floor z Hz). simpl in Floor. lra. }
    assert (S : sum pi Y = 1) by exact E.
    assert (pi y + c < sum pi Y); [|lra].
    clear - two Pos Floor' Hy Hc. revert two Hy Floor'. destruct Y as [|a [|b t]]; simpl; intros two Hy F; [tauto|..].
    { exfalso. apply (Nat.lt_irrefl 1). exact two. }
    assert (0 <= sum pi t) by (apply sum_nonneg; intros; left; auto).
    destruct Hy as [<-|[<-|Hy]].
    - pose proof (F b ltac:(auto)). lra.
    - pose proof (F a ltac:(auto)). lra.
    - pose proof (F a ltac:(auto)). pose proof (Pos b).
      assert (pi y <= sum pi t) by (apply sum_bounds; auto; intros; left; auto). lra. }
  exists pi, lam. split.
  - split; [split; [intros; left; auto|exact E]|]. intros y Hy. specialize (Small y Hy). split; [auto|lra].
  - intros y Hy. pose proof (Sol y) as S. unfold line in S. specialize (Small y Hy).
    destruct (Rle_dec (pi y) (1 - c)); lra.
Qed.

Theorem master_theorem r : exists pi lam, interior pi
  /\ (forall y, In y Y -> r y = d y (pi y) + lam)                                  (* r = s + lambda *)
  /\ (forall p, competitor p -> J r p <= J r pi)                                   (* a maximizer *)
  /\ (forall p, competitor p -> J r p = J r pi -> forall y, In y Y -> p y = pi y)  (* the only one *)
  /\ (forall ranking, incl ranking Y ->                                            (* preferences: those of s *)
        plackett_luce r ranking = plackett_luce (fun y => d y (pi y)) ranking).
Proof.
  destruct (stationary_exists r) as (pi & lam & I & H). exists pi, lam.
  split; [exact I|]. split; [exact H|]. split; [|split].
  - intros p C. now apply (stationary_is_optimal r pi lam).
  - intros p C. now apply (stationary_is_optimal r pi lam).
  - intros ranking Hin. apply (pl_shift A _ _ lam). auto.
Qed.

(* A maximizer is stationary: there is only one, and it is. *)
Theorem optimal_is_stationary r p : competitor p -> (forall q, competitor q -> J r q <= J r p) ->
  exists lam, forall y, In y Y -> 0 < p y < 1 /\ r y = d y (p y) + lam.
Proof.
  intros C M. destruct (master_theorem r) as (pi & lam & I & H & Max & Only & _).
  assert (Cpi : competitor pi) by (split; [apply I|]; intros y Hy Z; destruct I as [_ I]; specialize (I y Hy); lra).
  assert (Same : forall y, In y Y -> p y = pi y) by (apply Only; [exact C|apply Rle_antisym; auto]).
  exists lam. intros y Hy. rewrite (Same y Hy). split; [now apply I|auto].
Qed.

(* The converse: every interior policy is the one optimum for its own implicit reward. *)
Theorem every_interior_policy_is_optimal pi : interior pi -> forall p, competitor p ->
  let s := fun y => d y (pi y) in J s p <= J s pi /\ (J s p = J s pi -> forall y, In y Y -> p y = pi y).
Proof. intros I p C. apply (stationary_is_optimal _ pi 0); auto. intros. lra. Qed.

End Master.
